//! Unlinking a file, only while it is still the one that was verified.
//!
//! Between a look and an unlink by name anybody may put another file under that name:
//! PostgreSQL of a second server, an operator. So the file is renamed aside first, where
//! nobody else has a name for it, then looked at, then unlinked or put back.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use walferry_killpoint::kill_point;
use walferry_wal::WalFile;

use crate::directory::Directory;
use crate::stat::{FileId, file_type};
use crate::{compare, lock, names, quarantine};

/// What `delete` found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Deleted {
    /// It was still the same file, and it is gone.
    Unlinked,
    /// Another file lies under the name, or it was written to; it lies there still.
    Replaced,
    /// It was not there any more.
    Gone,
    /// The caller lost its claim at the last moment; the file lies there still.
    Kept,
}

/// The file was not deleted, or it is unknown whether its deletion survives a power loss;
/// both are harmless, since the next scan sees what is there.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    #[error("`{file}` in `{}` may not be deleted. HINT: the worker's user needs write permission on the directory, by the shared group and mode 2770, without the sticky bit", directory.display())]
    Denied {
        file: WalFile,
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{file}` in `{}` is being deleted or stored by another process", directory.display())]
    InUse { file: WalFile, directory: PathBuf },
    #[error("{step} `{file}` in `{}`", directory.display())]
    Io {
        step: &'static str,
        file: WalFile,
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Deletes `file` if it is still the one that `id` describes.
///
/// The caller owes the proof that every required copy is verified and committed.
///
/// # Errors
/// When the file system refuses. The file is then still there, or will be put back by the
/// next scan.
pub fn delete(directory: &Directory, file: &WalFile, id: &FileId) -> Result<Deleted, DeleteError> {
    delete_while(directory, file, id, || true)
}

/// As `delete`, asking `still_mine` right before the unlink: a worker that was frozen and lost
/// its claim meanwhile must change nothing.
///
/// # Errors
/// As `delete`.
pub fn delete_while(
    directory: &Directory,
    file: &WalFile,
    id: &FileId,
    still_mine: impl FnOnce() -> bool,
) -> Result<Deleted, DeleteError> {
    let failed = |step, source: io::Error| {
        let (file, directory) = (*file, directory.path().to_owned());
        if source.kind() == io::ErrorKind::PermissionDenied {
            return DeleteError::Denied {
                file,
                directory,
                source,
            };
        }
        DeleteError::Io {
            step,
            file,
            directory,
            source,
        }
    };
    let name = OsString::from(file.to_string());
    let handle = match directory.open_file(&name) {
        Ok(handle) => handle,
        Err(Errno::NOENT) => return Ok(Deleted::Gone),
        Err(Errno::LOOP) => return Ok(Deleted::Replaced),
        Err(error) => return Err(failed("open", error.into())),
    };
    let now = |handle: &File| fstat(handle).map(|stat| FileId::of(&stat));
    if !now(&handle)
        .map_err(|error| failed("look at", error.into()))?
        .unchanged(id)
    {
        return Ok(Deleted::Replaced);
    }
    // Held until the end: a scan that meets the name aside leaves it alone while we live.
    if !lock::lock_soon(&handle).map_err(|error| failed("lock", error.into()))? {
        return Err(DeleteError::InUse {
            file: *file,
            directory: directory.path().to_owned(),
        });
    }
    let aside = names::unique(names::ASIDE, &file.to_string());
    kill_point!("delete.rename.before");
    match directory.rename_new(&name, directory, &aside) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(Deleted::Gone),
        Err(error) => return Err(failed("rename", error.into())),
    }
    // A crash right here leaves a name that no scan reports; the next scan puts it back.
    kill_point!("delete.rename.after");
    let found = directory
        .stat(&aside)
        .map_err(|source| failed("look at", source))?;
    let unchanged = found.is_some_and(|stat| FileId::of(&stat).unchanged(id));
    if !unchanged || !still_mine() {
        put_back(directory, &aside, &name).map_err(|source| failed("put back", source))?;
        return Ok(if unchanged {
            Deleted::Kept
        } else {
            Deleted::Replaced
        });
    }
    kill_point!("delete.unlink.before");
    directory
        .unlink(&aside)
        .map_err(|error| failed("unlink", error.into()))?;
    kill_point!("delete.unlink.after");
    // The copies are verified and committed, so a power loss that brings the file back costs
    // one more comparison and nothing else. The sync keeps that from being the rule, and
    // makes the space it frees real before the catalog says that it is free.
    directory.sync().map_err(|source| failed("sync", source))?;
    kill_point!("delete.sync.after");
    Ok(Deleted::Unlinked)
}

/// Puts back what deletes that died have left aside. Whether there was anything.
pub(crate) fn put_back_leftovers(directory: &Directory, listed: &[OsString]) -> bool {
    let mut found = false;
    for aside in listed {
        let Some(name) = names::inside(names::ASIDE, aside) else {
            continue;
        };
        let outcome = directory
            .open_file(aside)
            .map_err(io::Error::from)
            .and_then(|handle| {
                // Locked: its deleter is at work, or frozen, and will finish itself.
                if !lock::try_lock(&handle)? {
                    return Ok(());
                }
                found = true;
                put_back(directory, aside, OsStr::new(&name))
            });
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(
                file.name = %aside.display(),
                directory.path = %directory.path().display(),
                error = &error as &dyn std::error::Error,
                "a file that a crashed worker had put aside could not be put back"
            ),
        }
    }
    found
}

/// Gives a file aside its name back, unless the name was taken meanwhile.
///
/// Then PostgreSQL has handed the file over again: the same content needs no second copy, and
/// another one is kept in the quarantine, because nobody has verified it.
fn put_back(directory: &Directory, aside: &OsStr, name: &OsStr) -> io::Result<()> {
    match directory.rename_new(aside, directory, name) {
        Ok(()) => {
            kill_point!("put-back.rename.after");
        }
        // Somebody else put it back.
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::EXIST) if same_content(directory, aside, name)? => {
            kill_point!("put-back-same.unlink.before");
            directory.unlink(aside)?;
            kill_point!("put-back-same.unlink.after");
        }
        Err(Errno::EXIST) => {
            let path = quarantine::keep(directory, aside, name)?;
            tracing::error!(
                file.name = %name.display(),
                quarantine.path = %path.display(),
                "a file was replaced by another content while it was deleted; the older one is \
                 kept in the quarantine. HINT: compare both"
            );
        }
        Err(error) => return Err(error.into()),
    }
    directory.sync()
}

fn same_content(directory: &Directory, a: &OsStr, b: &OsStr) -> io::Result<bool> {
    let (a, b) = (directory.open_file(a)?, directory.open_file(b)?);
    let (left, right) = (fstat(&a)?, fstat(&b)?);
    let regular = |stat| file_type(stat) == FileType::RegularFile;
    let ids = (FileId::of(&left), FileId::of(&right));
    if !regular(&left) || !regular(&right) || ids.0.size != ids.1.size {
        return Ok(false);
    }
    if ids.0.same_inode(&ids.1) {
        return Ok(true);
    }
    compare::same_bytes(a, b)
}
