//! Why a file was not stored, and what to do about it.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use walferry_wal::WalFile;

use crate::directory::Directory;

/// The file was not stored: PostgreSQL keeps it and tries again.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("`{}` is no file that PostgreSQL archives. HINT: use `archive_command = 'walferry push %p'`", path.display())]
    NotWal { path: PathBuf },
    #[error("`{}` is not a regular file. HINT: push what PostgreSQL names as %p, and nothing else", path.display())]
    NotRegular { path: PathBuf },
    #[error("`{}` has {size} bytes, which is no size of a segment. HINT: it is cut or still being written; push it again when it is whole", path.display())]
    NotASegmentSize { path: PathBuf, size: u64 },
    #[error("read `{}`. HINT: %p is relative to the data directory, where PostgreSQL runs the command as its own user", path.display())]
    Source {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` changed while it was copied. HINT: push only what PostgreSQL has finished", path.display())]
    SourceChanged { path: PathBuf },
    #[error("`{}` is there already with other content; nothing was overwritten. HINT: compare it with `{}`; if it is a cut or foreign copy, `walferry quarantine move {name}` puts it aside and PostgreSQL hands its own over again", path.display(), source_path.display())]
    OtherContent {
        path: PathBuf,
        source_path: PathBuf,
        name: WalFile,
    },
    #[error("`{}` is there already and cannot be compared. HINT: it has to be readable for the user that PostgreSQL runs as", path.display())]
    CannotCompare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{name}` is refused: archive directory `{}` holds {used} bytes, its limit is {limit}. HINT: PostgreSQL keeps the segment; look at `walferry status` for what holds up the archiving, or raise the limit", directory.display())]
    FullBytes {
        name: WalFile,
        directory: PathBuf,
        used: u64,
        limit: u64,
    },
    #[error("`{name}` is refused: the file system of archive directory `{}` is {used:.1} % full, the limit is {limit:.1} %. HINT: PostgreSQL keeps the segment; look at `walferry status` for what holds up the archiving, or make room", directory.display())]
    FullShare {
        name: WalFile,
        directory: PathBuf,
        /// In percent.
        used: f64,
        /// In percent.
        limit: f64,
    },
    #[error("no space left in archive directory `{}`. HINT: PostgreSQL keeps the segment; make room, and set a limit below that of the file system", directory.display())]
    NoSpace {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("archive directory `{}` may not be written. HINT: it belongs to a group that PostgreSQL's user is in, mode 2770", directory.display())]
    Denied {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{step} in archive directory `{}`. HINT: PostgreSQL keeps the segment and tries again; see what the kernel's log says of that file system", directory.display())]
    Io {
        step: &'static str,
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
}

pub(crate) fn io_error(step: &'static str, directory: &Directory, error: Errno) -> PushError {
    io_error_from(step, directory, error.into())
}

pub(crate) fn io_error_from(
    step: &'static str,
    directory: &Directory,
    source: io::Error,
) -> PushError {
    let directory = directory.path().to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            PushError::NoSpace { directory, source }
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            PushError::Denied { directory, source }
        }
        _ => PushError::Io {
            step,
            directory,
            source,
        },
    }
}
