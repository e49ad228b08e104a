//! `archive_command`: from PostgreSQL's hands into the archive directory, durably.
//!
//! When `push` returns `Ok`, PostgreSQL may recycle its copy, so by then the file and its
//! name have to survive a power loss. It needs nothing but the directory.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Timespec, Timestamps, fstat};
use rustix::io::Errno;
use walferry_killpoint::kill_point;
use walferry_wal::{FileKind, SegmentSize, WalFile};

use crate::directory::Directory;
use crate::push_error::{PushError, io_error, io_error_from};
use crate::stat::{FileId, file_type};
use crate::{compare, histories, lock, names, stale, usage};

/// Mode of a stored file: PostgreSQL's user writes, the shared group reads.
pub const DEFAULT_MODE: u32 = 0o640;

/// How to store a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PushSettings {
    /// Permission bits of the stored file, whatever the umask is.
    pub mode: u32,
    /// Where to refuse, so that PostgreSQL keeps the file.
    pub limit: Option<Limit>,
}

/// How full the directory may get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Bytes of all files in the directory, quarantine included.
    Bytes(u64),
    /// Share of the file system that is in use, by whomever, from 0 to 1.
    Share(f64),
}

/// What `push` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    Stored,
    /// The same content lay there under that name; it is durable now.
    AlreadyThere,
}

/// Stores `source`, a file of `pg_wal`, in `directory` under its own name.
///
/// On a timeline above 1 the history files next to it go first, if the directory has never
/// seen them: recovery across a promotion needs them, and those older than the day archiving
/// was switched on are never archived by PostgreSQL itself.
///
/// # Errors
/// Nothing was stored, or it is unknown whether what was stored is durable; in both cases
/// the same call again is right. Nothing is ever overwritten.
pub fn push(
    source: &Path,
    directory: &Directory,
    settings: &PushSettings,
) -> Result<Pushed, PushError> {
    let source = Source::open(source)?;
    if source.name.timeline().get() > 1 {
        histories::hand_over(&source, directory, settings)?;
    }
    let pushed = store(&source, directory, settings)?;
    if source.name.kind() == FileKind::History {
        histories::remember(&source, directory)?;
    }
    Ok(pushed)
}

/// An open file of PostgreSQL's.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) name: WalFile,
    pub(crate) id: FileId,
    handle: File,
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self, PushError> {
        let name: WalFile = path
            .file_name()
            .and_then(OsStr::to_str)
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| PushError::NotWal {
                path: path.to_owned(),
            })?;
        let failed = |error: Errno| PushError::Source {
            path: path.to_owned(),
            source: error.into(),
        };
        // NONBLOCK: a pipe of that name must not hang the archiver.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        let stat = fstat(&handle).map_err(failed)?;
        if file_type(&stat) != FileType::RegularFile {
            return Err(PushError::NotRegular {
                path: path.to_owned(),
            });
        }
        let id = FileId::of(&stat);
        let pages = matches!(name.kind(), FileKind::Segment | FileKind::Partial);
        if pages && SegmentSize::try_from(id.size).is_err() {
            return Err(PushError::NotASegmentSize {
                path: path.to_owned(),
                size: id.size,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            name,
            id,
            handle: handle.into(),
        })
    }

    /// All of it; for the small ones.
    pub(crate) fn content(&self) -> Result<Vec<u8>, PushError> {
        let mut bytes = Vec::new();
        self.reader()
            .and_then(|mut reader| reader.read_to_end(&mut bytes))
            .map_err(|source| self.failed(source))?;
        Ok(bytes)
    }

    /// From the beginning, whoever has read before.
    fn reader(&self) -> io::Result<impl Read + '_> {
        rustix::fs::seek(&self.handle, rustix::fs::SeekFrom::Start(0))?;
        Ok(&self.handle)
    }

    fn failed(&self, source: io::Error) -> PushError {
        PushError::Source {
            path: self.path.clone(),
            source,
        }
    }
}

/// Stores one file: temporary name, copy, fsync, rename without replacing, fsync the directory.
pub(crate) fn store(
    source: &Source,
    directory: &Directory,
    settings: &PushSettings,
) -> Result<Pushed, PushError> {
    let name = source.name.to_string();
    let name = OsStr::new(&name);
    // First of all, and also in a full directory: after a crash PostgreSQL hands over what
    // was archived already, and would wait for ever for a refusal to end.
    if let Some(pushed) = already_there(source, directory, name)? {
        return Ok(pushed);
    }
    stale::clean(directory);
    refuse_when_full(source, directory, settings)?;

    let temporary = Temporary::create(directory, &source.name)?;
    kill_point!("push.create.after");
    copy(source, &temporary, directory, settings)?;
    // The content before the name: were the rename durable and the content not, a crash would
    // leave a full-sized file of zeros under the final name, and PostgreSQL would be told
    // nothing. A crash right here leaves a temporary name, which a later push removes.
    kill_point!("push.fsync.before");
    rustix::fs::fsync(&temporary.handle)
        .map_err(|error| io_error("sync a file", directory, error))?;
    kill_point!("push.rename.before");
    match directory.rename_new(&temporary.name, directory, name) {
        Ok(()) => temporary.keep(),
        // Another push of the same file was faster.
        Err(Errno::EXIST) => {
            drop(temporary);
            return already_there(source, directory, name)?
                .ok_or_else(|| io_error("rename a file", directory, Errno::EXIST));
        }
        Err(error) => return Err(io_error("rename a file", directory, error)),
    }
    kill_point!("push.rename.after");
    // The name. A crash right here may lose it, but PostgreSQL was not told yet and hands the
    // file over again.
    directory
        .sync()
        .map_err(|source| io_error_from("sync the directory", directory, source))?;
    kill_point!("push.sync.after");
    Ok(Pushed::Stored)
}

/// Whether `name` is taken: by the same content, which is made durable, or by another.
fn already_there(
    source: &Source,
    directory: &Directory,
    name: &OsStr,
) -> Result<Option<Pushed>, PushError> {
    let path = || directory.path().join(name);
    let cannot_compare = |source: io::Error| PushError::CannotCompare {
        path: path(),
        source,
    };
    let other = || PushError::OtherContent {
        path: path(),
        source_path: source.path.clone(),
        name: source.name,
    };
    let there = match directory.open_file(name) {
        Ok(there) => there,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NXIO) => return Err(other()),
        Err(error) => return Err(cannot_compare(error.into())),
    };
    let stat = fstat(&there).map_err(|error| cannot_compare(error.into()))?;
    if file_type(&stat) != FileType::RegularFile || FileId::of(&stat).size != source.id.size {
        return Err(other());
    }
    let ours = source.reader().map_err(|error| source.failed(error))?;
    if !compare::same_bytes(ours, &there).map_err(cannot_compare)? {
        return Err(other());
    }
    // Whoever wrote it may have died before these two; only after them PostgreSQL may let go.
    kill_point!("push-again.fsync.before");
    rustix::fs::fsync(&there).map_err(|error| io_error("sync a file", directory, error))?;
    kill_point!("push-again.fsync.after");
    directory
        .sync()
        .map_err(|source| io_error_from("sync the directory", directory, source))?;
    kill_point!("push-again.sync.after");
    Ok(Some(Pushed::AlreadyThere))
}

fn refuse_when_full(
    source: &Source,
    directory: &Directory,
    settings: &PushSettings,
) -> Result<(), PushError> {
    let failed = |source| io_error_from("measure the space", directory, source);
    match settings.limit {
        None => Ok(()),
        Some(Limit::Bytes(limit)) => {
            let used = usage::bytes(directory).map_err(failed)?;
            if used.saturating_add(source.id.size) <= limit {
                return Ok(());
            }
            Err(PushError::FullBytes {
                name: source.name,
                directory: directory.path().to_owned(),
                used,
                limit,
            })
        }
        Some(Limit::Share(limit)) => {
            let space = usage::space(directory).map_err(failed)?;
            let used = space.share_with(source.id.size);
            // NaN, an unreadable limit, refuses nothing here: the CLI does not let it pass.
            if used > limit {
                return Err(PushError::FullShare {
                    name: source.name,
                    directory: directory.path().to_owned(),
                    used: space.share_with(0) * 100.0,
                    limit: limit * 100.0,
                });
            }
            Ok(())
        }
    }
}

fn copy(
    source: &Source,
    temporary: &Temporary<'_>,
    directory: &Directory,
    settings: &PushSettings,
) -> Result<(), PushError> {
    rustix::fs::seek(&source.handle, rustix::fs::SeekFrom::Start(0))
        .map_err(|error| source.failed(error.into()))?;
    // The standard library copies inside the kernel (copy_file_range) where it can.
    let copied = io::copy(&mut &source.handle, &mut &temporary.handle)
        .map_err(|source| io_error_from("copy a file", directory, source))?;
    let now = fstat(&source.handle).map_err(|error| source.failed(error.into()))?;
    if copied != source.id.size || !FileId::of(&now).unchanged(&source.id) {
        return Err(PushError::SourceChanged {
            path: source.path.clone(),
        });
    }
    // The time of the last write is about the time the segment was closed: it tells how old
    // a copy is, which the time of a late hand-over would not.
    let written = Timespec {
        tv_sec: source.id.mtime_ns.div_euclid(1_000_000_000),
        tv_nsec: source.id.mtime_ns.rem_euclid(1_000_000_000) as _,
    };
    let times = Timestamps {
        last_access: written,
        last_modification: written,
    };
    rustix::fs::futimens(&temporary.handle, &times)
        .map_err(|error| io_error("set the time of a file", directory, error))?;
    // PostgreSQL's umask is 0077: the worker could not read what `open` alone makes.
    rustix::fs::fchmod(&temporary.handle, Mode::from_raw_mode(settings.mode))
        .map_err(|error| io_error("set the mode of a file", directory, error))
}

/// A temporary name, removed again unless it was renamed.
struct Temporary<'a> {
    directory: &'a Directory,
    name: std::ffi::OsString,
    handle: File,
    renamed: bool,
}

impl<'a> Temporary<'a> {
    fn create(directory: &'a Directory, file: &WalFile) -> Result<Self, PushError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        loop {
            let name = names::unique(names::PUSH, &file.to_string());
            let handle: File =
                rustix::fs::openat(directory.handle(), &name, flags, Mode::from_raw_mode(0o600))
                    .map_err(|error| io_error("create a file", directory, error))?
                    .into();
            // The lock says that somebody is at work. Until it is taken, another push may
            // think the file stale and unlink it: then it has no name left and is made anew.
            let locked = lock::lock_soon(&handle)
                .map_err(|error| io_error("lock a file", directory, error))?;
            let stat =
                fstat(&handle).map_err(|error| io_error("look at a file", directory, error))?;
            if locked && stat.st_nlink > 0 {
                return Ok(Self {
                    directory,
                    name,
                    handle,
                    renamed: false,
                });
            }
        }
    }

    fn keep(mut self) {
        self.renamed = true;
        // A worker may begin with the file at once; deleting it takes this lock.
        lock::unlock(&self.handle);
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // If this fails, or the process dies before it, a later push removes the file.
            let _ = self.directory.unlink(&self.name);
        }
    }
}
