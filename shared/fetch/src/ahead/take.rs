//! Taking a segment that was fetched ahead.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

use walferry_wal::{PageHeader, SegmentName, SystemId, WalFile};

use super::space::{Entry, Space};
use crate::check::{self, Compared};
use crate::download::Checked;
use crate::parent::Parent;
use crate::place::{self, Delivered, PlaceError};
use crate::temporary::{Place, Temporary};

/// What the space had.
#[derive(Debug)]
pub enum Taken {
    Delivered(Delivered),
    /// It is not there.
    Nothing,
    /// Something was there and not delivered: why.
    Unfit(String),
}

/// A segment on its way is waited for as long as it grows.
const STALLED: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(2);

impl Space {
    /// Delivers `segment` from here, if it is here or about to be.
    ///
    /// The file was checked against its SHA-256 when it was stored. Now its size, its header and
    /// its CRC-32C are: 3 ms for 16 MiB instead of 12, and enough against what may happen to a
    /// file between two processes of one user on a machine that is up (a write that the disk
    /// refused late, junk, a wrong name).
    ///
    /// # Errors
    /// When it cannot be placed: that has nothing to do with the space.
    pub fn deliver(
        &self,
        segment: &SegmentName,
        system: SystemId,
        destination: &Path,
        parent: &Parent,
    ) -> Result<Taken, PlaceError> {
        let Some((name, crc32c)) = self.await_ready(segment) else {
            return Ok(Taken::Nothing);
        };
        let unfit = |error: &dyn std::error::Error| {
            // Another fetch may have taken it: then there is nothing to unlink.
            self.unlink(name.as_os_str());
            let folder = self.path().display();
            Ok(Taken::Unfit(format!(
                "what was fetched ahead in `{folder}` is not delivered: {error}"
            )))
        };
        let file = match self.file(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Taken::Nothing),
            Err(error) => return unfit(&error),
        };
        if let Err(error) = examine(&file, segment, system, crc32c) {
            return unfit(&error);
        }
        let folder = destination.parent().unwrap_or(destination);
        let place = Place::open(folder).map_err(|source| PlaceError::Directory {
            path: folder.to_owned(),
            source,
        })?;
        let temporary = match Temporary::take(&place, self.place(), &name, file) {
            Ok(temporary) => temporary,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Taken::Nothing),
            Err(error) => return unfit(&error),
        };
        let checked = Checked {
            temporary,
            compared: Compared::Whole,
            crc32c,
        };
        place::place(checked, destination, parent).map(Taken::Delivered)
    }

    /// Waits while somebody writes it.
    fn await_ready(&self, segment: &SegmentName) -> Option<(std::ffi::OsString, u32)> {
        let part = Entry::part(segment);
        let (mut grown, mut since) = (None, Instant::now());
        loop {
            // Looked at before the names are read: it becomes ready in between or not at all.
            let growing = self.growing(&part);
            let entries = self.entries().ok()?;
            let ready = entries.into_iter().find_map(|(name, entry)| match entry {
                Entry::Ready { segment: s, crc32c } if s == *segment => Some((name, crc32c)),
                _ => None,
            });
            if ready.is_some() {
                return ready;
            }
            let size = growing?;
            if grown != Some(size) {
                (grown, since) = (Some(size), Instant::now());
            } else if since.elapsed() > STALLED {
                return None;
            }
            std::thread::sleep(STEP);
        }
    }

    /// The size of a part that somebody is at work on.
    fn growing(&self, part: &OsStr) -> Option<u64> {
        let file = self.file(part).ok()?;
        let held = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared);
        if held.is_ok() {
            // Whoever began it is dead.
            return None;
        }
        Some(file.metadata().ok()?.len())
    }
}

/// Why a file is not delivered.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("its bytes are not those that were checked")]
    Sum,
    #[error("{0}")]
    Content(#[from] check::Mismatch),
}

/// Reads all of it.
fn examine(
    file: &File,
    segment: &SegmentName,
    system: SystemId,
    expected: u32,
) -> Result<(), Unfit> {
    let mut buffer = vec![0; 1 << 20];
    let (mut size, mut crc32c) = (0, 0);
    let mut head = Vec::new();
    let mut reader = file;
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let room = PageHeader::SIZE.saturating_sub(head.len()).min(read);
        head.extend_from_slice(&buffer[..room]);
        crc32c = crc32c::crc32c_append(crc32c, &buffer[..read]);
        size += read as u64;
    }
    if crc32c != expected {
        return Err(Unfit::Sum);
    }
    Ok(check::content(
        &WalFile::Segment(*segment),
        system,
        &head,
        size,
    )?)
}
