//! A file under a temporary name in the directory where it is to lie.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// What temporary names begin with: PostgreSQL takes none for WAL, since those are 24 hex
/// digits, or end in `.history`, `.backup` or `.partial`.
pub(crate) const PREFIX: &str = "walferry-fetch.";
const SUFFIX: &str = ".tmp";

/// The directory of a destination.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    handle: File,
}

/// A temporary file; unlinked when dropped, unless it was renamed.
#[derive(Debug)]
pub(crate) struct Temporary {
    place: Place,
    name: OsString,
    handle: File,
    renamed: bool,
}

impl Place {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // The directory of `file` alone is the working directory.
        let path = if path == Path::new("") {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())?.into();
        Ok(Self {
            path: path.to_owned(),
            handle,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }

    /// Another handle of the same directory.
    pub(crate) fn again(&self) -> io::Result<Self> {
        Ok(Self {
            path: self.path.clone(),
            handle: self.handle.try_clone()?,
        })
    }

    /// Unlinks what fetches that died have left. Best effort: nothing fails for it.
    pub(crate) fn clean(&self) {
        let Ok(entries) = Dir::read_from(&self.handle) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if !name.starts_with(PREFIX.as_bytes()) || !name.ends_with(SUFFIX.as_bytes()) {
                continue;
            }
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(file) =
                rustix::fs::openat(&self.handle, entry.file_name(), flags, Mode::empty())
            else {
                continue;
            };
            // Whoever works on it holds the lock until it dies, however it dies.
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let _ = rustix::fs::unlinkat(&self.handle, entry.file_name(), AtFlags::empty());
            }
        }
    }
}

impl Temporary {
    /// A new one, which only its owner may read, as PostgreSQL's own files.
    pub(crate) fn create(place: &Place) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        for attempt in 0_u32.. {
            let name = format!("{PREFIX}{}-{attempt}{SUFFIX}", std::process::id());
            let mode = Mode::from_raw_mode(0o600);
            let handle: File = match rustix::fs::openat(&place.handle, &name, flags, mode) {
                Ok(handle) => handle.into(),
                // Another container's process of the same number.
                Err(Errno::EXIST) if attempt < 1000 => continue,
                Err(error) => return Err(error.into()),
            };
            let locked = rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive);
            let unlinked = rustix::fs::fstat(&handle)?.st_nlink == 0;
            match locked {
                // Another fetch cleaned it away before the lock was taken.
                Ok(()) if unlinked => continue,
                Err(Errno::WOULDBLOCK) => continue,
                Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(Self {
                place: place.again()?,
                name: name.into(),
                handle,
                renamed: false,
            });
        }
        Err(io::Error::other("no temporary name is free"))
    }

    /// One of that very name, which nobody else may have.
    pub(crate) fn create_named(place: &Place, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let handle: File = rustix::fs::openat(&place.handle, name, flags, mode)?.into();
        let temporary = Self {
            place: place.again()?,
            name: name.to_owned(),
            handle,
            renamed: false,
        };
        rustix::fs::flock(&temporary.handle, FlockOperation::NonBlockingLockExclusive)?;
        Ok(temporary)
    }

    /// Takes a whole file out of another directory, moved where that is possible and copied
    /// where not. `file` is the open file that lies under `name` there; it is locked, so that
    /// under its temporary name nobody takes it for one of a dead fetch.
    pub(crate) fn take(place: &Place, from: &Place, name: &OsStr, file: File) -> io::Result<Self> {
        let mut temporary = Self::create(place)?;
        // Who wrote it lets go of it right after it has its name.
        if !lock(&file, Duration::from_millis(500))? {
            return Err(io::Error::other("somebody holds it"));
        }
        match rustix::fs::renameat(&from.handle, name, &place.handle, &temporary.name) {
            Ok(()) => temporary.handle = file,
            Err(Errno::XDEV) => {
                rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
                io::copy(&mut &file, &mut &temporary.handle)?;
                // What was copied is of no more use there.
                let _ = rustix::fs::unlinkat(&from.handle, name, AtFlags::empty());
            }
            Err(error) => return Err(error.into()),
        }
        Ok(temporary)
    }

    /// Where its bytes go.
    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }

    pub(crate) fn directory(&self) -> &File {
        &self.place.handle
    }

    /// Renames it within its directory, over what lies there. The temporary name is then gone
    /// for good; the lock on the file goes with it.
    pub(crate) fn rename(mut self, name: &OsStr) -> io::Result<()> {
        let directory = &self.place.handle;
        rustix::fs::renameat(directory, &self.name, directory, name)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // If this fails, or the process dies before it, a later fetch unlinks the file.
            let _ = rustix::fs::unlinkat(&self.place.handle, &self.name, AtFlags::empty());
        }
    }
}

/// Takes an exclusive lock on an open file or directory, waiting up to `patience`.
pub(crate) fn lock(file: &File, patience: Duration) -> io::Result<bool> {
    let step = Duration::from_millis(2);
    let mut waited = Duration::ZERO;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) if waited >= patience => return Ok(false),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                std::thread::sleep(step);
                waited += step;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

pub(crate) fn unlock(file: &File) {
    // Closing it does the same: a failure changes nothing.
    let _ = rustix::fs::flock(file, FlockOperation::Unlock);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn what_a_dead_fetch_left_is_cleaned_and_what_a_living_one_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("walferry-fetch.1-0.tmp"), "x").unwrap();
        std::fs::write(folder.path().join("000000010000000000000001"), "x").unwrap();
        let place = Place::open(folder.path()).unwrap();
        let ours = Temporary::create(&place).unwrap();
        place.clean();
        assert_eq!(names(folder.path()).len(), 2, "{:?}", names(folder.path()));
        drop(ours);
        assert_eq!(names(folder.path()), ["000000010000000000000001"]);
    }
}
