use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::permissions;

/// An open archive directory.
///
/// Every operation goes through the open directory, not through its path, so that none is
/// split between two directories when somebody moves one away and puts another in its place.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    handle: Arc<OwnedFd>,
}

/// The archive directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error(
        "archive directory `{}` does not exist. HINT: create it with the group that PostgreSQL and the workers share, mode 2770", path.display()
    )]
    Missing { path: PathBuf },
    #[error("archive directory `{}` is not a directory. HINT: set WAL_ARCHIVE_DIR to the directory, not to a file in it", path.display())]
    NotADirectory { path: PathBuf },
    #[error("archive directory `{}` may not be read: {shape}. HINT: {}", path.display(), permissions::SHARED)]
    Denied {
        path: PathBuf,
        /// Owner, group and mode, or that these may not be seen either.
        shape: String,
        #[source]
        source: io::Error,
    },
    #[error("open archive directory `{}`", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Directory {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// When it is missing, no directory, or not readable.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DirectoryError> {
        let path = path.as_ref().to_path_buf();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(handle) => Ok(Self {
                path,
                handle: Arc::new(handle),
            }),
            Err(Errno::NOENT) => Err(DirectoryError::Missing { path }),
            Err(Errno::NOTDIR) => Err(DirectoryError::NotADirectory { path }),
            Err(error @ (Errno::ACCESS | Errno::PERM)) => Err(DirectoryError::Denied {
                shape: permissions::shape_of(&path),
                path,
                source: error.into(),
            }),
            Err(error) => Err(DirectoryError::Io {
                path,
                source: error.into(),
            }),
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder of ours inside, making it first when it is not there.
    pub(crate) fn subfolder(&self, name: &str) -> io::Result<Self> {
        match self.open_subfolder(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match rustix::fs::mkdirat(self.handle(), name, Mode::from_raw_mode(0o770)) {
            Ok(()) => {
                let made = self.open_subfolder(name)?;
                // The umask of PostgreSQL is 0077: without this the other user of the shared
                // group could not look into the folder.
                let mode = rustix::fs::fstat(self.handle())?.st_mode & 0o7777;
                rustix::fs::fchmod(made.handle(), Mode::from_raw_mode(mode))?;
                // A crash right here leaves an empty folder or none: both are made good by
                // the next call.
                self.sync()?;
                Ok(made)
            }
            // Somebody else was faster.
            Err(Errno::EXIST) => self.open_subfolder(name),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn open_subfolder(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(self.handle(), name, flags, Mode::empty())?;
        Ok(Self {
            path: self.path.join(name),
            handle: Arc::new(handle),
        })
    }

    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Makes every rename and unlink so far in this directory survive a power loss.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.handle())?)
    }

    /// What `name` stands for, without following a link; `None` when it is not there.
    pub(crate) fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(self.handle(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens `name` for reading. Never follows a link, never waits for the writer of a pipe.
    pub(crate) fn open_file(&self, name: &OsStr) -> Result<File, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(self.handle(), name, flags, Mode::empty()).map(File::from)
    }

    /// The names in the directory, in no order.
    pub(crate) fn names(&self) -> io::Result<Vec<std::ffi::OsString>> {
        use std::os::unix::ffi::OsStrExt;

        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(self.handle())? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// Renames within the directory or into `to`, never over something that is there.
    ///
    /// `Errno::EXIST` when `new` is taken. A crash in the middle leaves the old name, the new
    /// one, or, on file systems without RENAME_NOREPLACE, both names of one file.
    pub(crate) fn rename_new(&self, old: &OsStr, to: &Self, new: &OsStr) -> Result<(), Errno> {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(self.handle(), old, to.handle(), new, flags) {
            // NFS and some FUSE file systems know no flags. A hard link refuses to replace, too.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.link_and_unlink(old, to, new),
            other => other,
        }
    }

    pub(crate) fn link_and_unlink(&self, old: &OsStr, to: &Self, new: &OsStr) -> Result<(), Errno> {
        rustix::fs::linkat(self.handle(), old, to.handle(), new, AtFlags::empty())?;
        // A crash right here leaves two names of one file: no content is lost, and the
        // temporary one is cleaned up like any other.
        rustix::fs::unlinkat(self.handle(), old, AtFlags::empty())
    }

    pub(crate) fn unlink(&self, name: &OsStr) -> Result<(), Errno> {
        rustix::fs::unlinkat(self.handle(), name, AtFlags::empty())
    }
}
