//! The subfolder of files that nobody archives: a person decides about them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::directory::Directory;
use crate::names;
use crate::stat::{FileId, file_type};
use walferry_killpoint::kill_point;

/// A file that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// May be no UTF-8.
    pub name: OsString,
    pub path: PathBuf,
    pub stat: FileId,
}

/// The file was not put aside; it lies where it was.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    #[error("`{}` is no name of a file in the archive directory. HINT: give the name alone, without a path", name.display())]
    NotAName { name: OsString },
    #[error("there is no `{}` in `{}`. HINT: `walferry quarantine ls` names what is suspicious", name.display(), directory.display())]
    Gone { name: OsString, directory: PathBuf },
    #[error("`{}` in `{}` cannot be put aside", name.display(), directory.display())]
    Io {
        name: OsString,
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Moves `name` into `quarantine/` and returns where it is now. Never deletes, never replaces:
/// a second file of that name gets a number.
///
/// # Errors
/// When there is no such file, or the file system refuses.
pub fn quarantine_move(directory: &Directory, name: &OsStr) -> Result<PathBuf, QuarantineError> {
    let plain = std::path::Path::new(name).file_name() == Some(name);
    if !plain || names::ignored(name) {
        return Err(QuarantineError::NotAName { name: name.into() });
    }
    keep(directory, name, name).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => QuarantineError::Gone {
            name: name.into(),
            directory: directory.path().to_owned(),
        },
        _ => QuarantineError::Io {
            name: name.into(),
            directory: directory.path().to_owned(),
            source,
        },
    })
}

/// What lies in the quarantine, by name.
///
/// # Errors
/// When it cannot be listed; a quarantine that was never needed is an empty list.
pub fn quarantine_list(directory: &Directory) -> io::Result<Vec<Quarantined>> {
    let folder = match directory.open_subfolder(names::QUARANTINE) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut list = Vec::new();
    for name in folder.names()? {
        match folder.stat(&name)? {
            Some(stat) if file_type(&stat) != FileType::Directory => list.push(Quarantined {
                path: folder.path().join(&name),
                stat: FileId::of(&stat),
                name,
            }),
            _ => {}
        }
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(list)
}

/// Moves `from` into the quarantine as `name`, `name.2`, `name.3` …
pub(crate) fn keep(directory: &Directory, from: &OsStr, name: &OsStr) -> io::Result<PathBuf> {
    let folder = directory.subfolder(names::QUARANTINE)?;
    kill_point!("quarantine.rename.before");
    for number in 1..10_000_u32 {
        let mut target = name.to_owned();
        if number > 1 {
            target.push(format!(".{number}"));
        }
        match directory.rename_new(from, &folder, &target) {
            Ok(()) => {
                // The new name before the old one's end: a power loss in between may leave
                // both names or either, never none.
                kill_point!("quarantine.rename.after");
                folder.sync()?;
                kill_point!("quarantine.folder-sync.after");
                directory.sync()?;
                kill_point!("quarantine.sync.after");
                return Ok(folder.path().join(target));
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EXIST.into())
}
