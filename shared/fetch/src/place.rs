//! Onto `%p`: the last step, and the only one that PostgreSQL sees.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walferry_killpoint::kill_point;

use crate::download::Checked;
use crate::parent::Parent;
use crate::temporary;

/// A file lies where it was asked for. Comes only from the rename.
#[derive(Debug)]
pub struct Delivered(());

/// This machine did not let a file be placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("`{0}` names no file. HINT: write restore_command = 'walferry fetch %f %p'")]
    NoName(PathBuf),
    #[error("cannot open the directory `{path}`")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write a temporary file in `{directory}`")]
    Temporary {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot lock the directory `{path}`")]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another fetch holds the directory `{0}`")]
    Busy(PathBuf),
    #[error("cannot rename onto `{path}`")]
    Rename {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the process that asked for the file is gone: nothing is delivered")]
    Orphaned,
}

/// The rename is a matter of microseconds; somebody who holds the lock for longer is stopped.
const PATIENCE: Duration = Duration::from_secs(10);

/// What PostgreSQL calls the file before it makes it durable itself.
const RECOVERY: [&str; 2] = ["RECOVERYXLOG", "RECOVERYHISTORY"];

/// Renames a checked file onto `destination`, over what lies there.
///
/// PostgreSQL syncs what it was given: it renames RECOVERYXLOG and RECOVERYHISTORY with
/// `durable_rename` (`KeepFileRestoredFromArchive`), and after a crash it unlinks them before it
/// asks again. To sync them here as well would cost a disk flush for each segment and protect
/// nothing. Under any other name nobody else does it, so it is done.
pub(crate) fn place(
    checked: Checked,
    destination: &Path,
    parent: &Parent,
) -> Result<Delivered, PlaceError> {
    let name = destination
        .file_name()
        .ok_or_else(|| PlaceError::NoName(destination.to_owned()))?;
    let failed = |source| PlaceError::Rename {
        path: destination.to_owned(),
        source,
    };
    let durable = !RECOVERY.iter().any(|known| OsStr::new(known) == name);
    if durable {
        // The content before the name. A crash right here leaves a temporary file.
        checked.temporary.handle().sync_all().map_err(failed)?;
    }
    let directory = checked.temporary.directory().try_clone().map_err(failed)?;
    // The lock is on the directory itself: no file of ours has to lie beside the WAL for it.
    match temporary::lock(&directory, PATIENCE) {
        Ok(true) => {}
        Ok(false) => return Err(PlaceError::Busy(folder(destination))),
        Err(source) => {
            return Err(PlaceError::Lock {
                path: folder(destination),
                source,
            });
        }
    }
    // Whoever is orphaned here was started by a server that is gone, and the one that runs now
    // may wait for another segment under the very same name.
    if !parent.lives() {
        temporary::unlock(&directory);
        return Err(PlaceError::Orphaned);
    }
    kill_point!("fetch.rename.before");
    let renamed = checked.temporary.rename(name).map_err(failed);
    temporary::unlock(&directory);
    renamed?;
    // A crash right here leaves a whole, checked file: PostgreSQL was told nothing, and unlinks
    // it before it asks again.
    kill_point!("fetch.rename.after");
    if durable {
        directory.sync_all().map_err(failed)?;
        kill_point!("fetch.sync.after");
    }
    Ok(Delivered(()))
}

fn folder(destination: &Path) -> PathBuf {
    destination.parent().unwrap_or(Path::new(".")).to_owned()
}
