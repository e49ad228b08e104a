use std::ffi::OsString;
use std::io;

use rustix::fs::FileType;
use walferry_wal::{FileKind, WalFile};

use crate::delete;
use crate::directory::Directory;
use crate::names;
use crate::stat::{FileId, file_type};
use crate::suspicion::Suspicion;

/// Something in the directory that is not ours and not temporary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// May be no UTF-8, and may be hostile: show it with `display()`.
    pub name: OsString,
    /// The WAL file it claims to be, as far as name and type tell.
    pub file: Result<WalFile, Suspicion>,
    pub stat: FileId,
}

/// The directory cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("list archive directory `{}`", path.display())]
pub struct ScanError {
    path: std::path::PathBuf,
    #[source]
    source: io::Error,
}

/// Lists the directory: history files first, then WAL in its order, then what is no WAL.
///
/// Files that a crashed `delete` had put aside are put back first, so that nothing is hidden
/// from the archive by a crash.
///
/// # Errors
/// When the directory cannot be read. A file that vanishes meanwhile is none.
pub fn scan(directory: &Directory) -> Result<Vec<Entry>, ScanError> {
    let failed = |source| ScanError {
        path: directory.path().to_owned(),
        source,
    };
    let mut found = directory.names().map_err(failed)?;
    if delete::put_back_leftovers(directory, &found) {
        found = directory.names().map_err(failed)?;
    }
    let mut entries = Vec::with_capacity(found.len());
    for name in found {
        if names::ignored(&name) {
            continue;
        }
        let Some(stat) = directory.stat(&name).map_err(failed)? else {
            continue;
        };
        let parsed = name.to_str().and_then(|name| name.parse::<WalFile>().ok());
        let file = match (file_type(&stat), parsed) {
            (FileType::RegularFile, Some(file)) => Ok(file),
            (_, None) => Err(Suspicion::NotAWalName),
            (FileType::Symlink, Some(_)) => Err(Suspicion::Symlink),
            (_, Some(_)) => Err(Suspicion::NotRegular),
        };
        entries.push(Entry {
            name,
            file,
            stat: FileId::of(&stat),
        });
    }
    entries.sort_by(|a, b| order(a).cmp(&order(b)));
    Ok(entries)
}

fn order(entry: &Entry) -> impl Ord + '_ {
    // History files have no segment, and `None` sorts before any.
    let wal = entry.file.as_ref().ok().map(|file| {
        (
            file.kind() != FileKind::History,
            file.timeline(),
            file.segment(),
            *file,
        )
    });
    (wal.is_none(), wal, &entry.name)
}
