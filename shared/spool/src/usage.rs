//! How full the directory and its file system are.

use std::io;

use rustix::fs::FileType;

use crate::directory::Directory;
use crate::names;
use crate::stat::{FileId, file_type};

/// Space, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Files in the directory and its quarantine, temporary ones too.
    pub files: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// What of the file system ordinary users have in all, without the blocks that are
    /// reserved for root: `1 - fs_available / fs_total` is the share that `df` shows.
    pub fs_total: u64,
    /// What ordinary users can still write.
    pub fs_available: u64,
    /// Share of the file system in use, from 0 to 1, as `df` shows it.
    pub share: f64,
}

/// Measures the directory.
///
/// # Errors
/// When it cannot be listed.
pub fn usage(directory: &Directory) -> io::Result<Usage> {
    let (files, bytes) = count(directory)?;
    let space = space(directory)?;
    Ok(Usage {
        files,
        bytes,
        fs_total: space.room(),
        fs_available: space.available,
        share: space.share_with(0),
    })
}

/// Bytes of all files in the directory and its quarantine.
pub(crate) fn bytes(directory: &Directory) -> io::Result<u64> {
    Ok(count(directory)?.1)
}

pub(crate) struct Space {
    used: u64,
    available: u64,
}

impl Space {
    /// The share in use after `more` bytes. Blocks reserved for root count neither as used
    /// nor as room, because PostgreSQL cannot write there.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no last digit")]
    pub(crate) fn share_with(&self, more: u64) -> f64 {
        match self.room() {
            0 => 1.0,
            room => self.used.saturating_add(more) as f64 / room as f64,
        }
    }

    fn room(&self) -> u64 {
        self.used.saturating_add(self.available)
    }
}

pub(crate) fn space(directory: &Directory) -> io::Result<Space> {
    let fs = rustix::fs::fstatvfs(directory.handle())?;
    let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
    Ok(Space {
        used: bytes(fs.f_blocks.saturating_sub(fs.f_bfree)),
        available: bytes(fs.f_bavail),
    })
}

fn count(directory: &Directory) -> io::Result<(u64, u64)> {
    let mut sum = (0, 0);
    add(directory, &mut sum)?;
    match directory.open_subfolder(names::QUARANTINE) {
        Ok(quarantine) => add(&quarantine, &mut sum)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(sum)
}

fn add(directory: &Directory, (files, bytes): &mut (u64, u64)) -> io::Result<()> {
    for name in directory.names()? {
        // Gone since the listing: a worker is at work.
        let Some(stat) = directory.stat(&name)? else {
            continue;
        };
        if file_type(&stat) == FileType::RegularFile {
            *files += 1;
            *bytes += FileId::of(&stat).size;
        }
    }
    Ok(())
}
