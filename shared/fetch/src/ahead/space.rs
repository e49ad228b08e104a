//! The directory that holds what was fetched ahead for one cluster.
//!
//! ```text
//! <fetch.directory>/<hash>/           0700, ours
//!   lock                              held by the one process that fetches ahead
//!   position                          the segment that recovery has reached
//!   timeline                          the highest timeline whose history was delivered
//!   failed                            why fetching ahead ended, if it did not end well
//!   log                               what it said
//!   <SEGMENT>.part                    on its way; locked by who writes it
//!   <SEGMENT>-<CRC-32C>               whole, checked, not synced
//! ```
//!
//! Nothing is synced: after a crash of the machine a file may hold zeros. So the hash is also
//! over the kernel's boot id, and what an earlier boot wrote is never looked at; and who takes a
//! file computes its CRC-32C again.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};
use walferry_proof::{KeyPrefix, sha256};
use walferry_wal::{SegmentName, SystemId};

use crate::temporary::Place;

/// The space of one cluster.
#[derive(Debug)]
pub struct Space {
    place: Place,
}

/// There is nowhere to keep what was fetched ahead.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    #[error("cannot use the directory `{path}` (fetch.directory)")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the directory `{path}` (fetch.directory) is not ours alone. HINT: it must belong to PostgreSQL's user, with mode 0700"
    )]
    NotOurs { path: PathBuf },
}

/// A file of a space, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Ready { segment: SegmentName, crc32c: u32 },
    Part(SegmentName),
    Other,
}

/// So long a failure keeps the next process from being started.
const REST: Duration = Duration::from_secs(30);

impl Space {
    /// The directory that is used when no setting names one.
    #[must_use]
    pub fn default_directory() -> PathBuf {
        let user = rustix::process::getuid().as_raw();
        PathBuf::from(format!("/var/tmp/walferry-fetch-{user}"))
    }

    /// Opens the space of a cluster below `directory`, and makes it if need be. `sources` are
    /// the repositories as far as they decide what a key holds: endpoint and bucket of each.
    ///
    /// # Errors
    /// [`SpaceError`]; then segments are fetched one by one.
    pub fn open(
        directory: &Path,
        prefix: &KeyPrefix,
        system: SystemId,
        sources: &[String],
    ) -> Result<Self, SpaceError> {
        own_directory(directory)?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let identity = format!("1\n{boot}\n{prefix}\n{system}\n{}", sources.join("\n"));
        let name = &sha256(identity.as_bytes()).to_string()[..32];
        let path = directory.join(name);
        own_directory(&path)?;
        let place = Place::open(&path).map_err(|source| SpaceError::Directory { path, source })?;
        Ok(Self { place })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let place = self.place.again()?;
        Ok(Self { place })
    }

    /// Everything that lies there.
    pub(super) fn entries(&self) -> io::Result<Vec<(OsString, Entry)>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(self.place.handle())? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && !name.starts_with('.')
            {
                entries.push((name.into(), Entry::of(name)));
            }
        }
        Ok(entries)
    }

    /// Opens a file there, for reading: nothing that is no plain file of ours.
    pub(super) fn file(&self, name: &std::ffi::OsStr) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File =
            rustix::fs::openat(self.place.handle(), name, flags, Mode::empty())?.into();
        let stat = file.metadata()?;
        if stat.is_file() && stat.uid() == rustix::process::getuid().as_raw() {
            Ok(file)
        } else {
            Err(io::Error::other("it is no file of ours"))
        }
    }

    /// Unlinks a file there. A crash around it leaves the file, or not: neither matters.
    pub(super) fn unlink(&self, name: impl rustix::path::Arg) {
        let _ = rustix::fs::unlinkat(self.place.handle(), name, AtFlags::empty());
    }

    /// Whether a process fetches ahead here.
    pub(super) fn is_served(&self) -> bool {
        match self.lock_file() {
            Ok(file) => rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err(),
            Err(_) => false,
        }
    }

    /// Becomes the one process that fetches ahead, for as long as the file lives.
    pub(super) fn serve(&self) -> io::Result<Option<File>> {
        let file = self.lock_file()?;
        // A `fetch` holds the lock for an instant, to see whether it is free.
        let taken = crate::temporary::lock(&file, Duration::from_millis(100))?;
        Ok(taken.then_some(file))
    }

    fn lock_file(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        Ok(rustix::fs::openat(self.place.handle(), "lock", flags, mode)?.into())
    }

    /// Notes why fetching ahead ended. Where even that cannot be written, nobody is told.
    pub(super) fn note_failure(&self, reason: &str) {
        let _ = std::fs::write(self.path().join("failed"), reason);
    }

    pub(super) fn forget_failure(&self) {
        self.unlink("failed");
    }

    /// Why fetching ahead ended a moment ago.
    pub(super) fn failure(&self) -> Option<String> {
        let path = self.path().join("failed");
        let modified = std::fs::metadata(&path).ok()?.modified().ok()?;
        let age = SystemTime::now()
            .duration_since(modified)
            .unwrap_or_default();
        (age < REST).then(|| std::fs::read_to_string(&path).unwrap_or_default())
    }
}

impl Entry {
    fn of(name: &str) -> Self {
        if let Some(segment) = name
            .strip_suffix(".part")
            .and_then(|name| name.parse().ok())
        {
            return Self::Part(segment);
        }
        let ready = name.split_once('-').and_then(|(segment, crc32c)| {
            Some(Self::Ready {
                segment: segment.parse().ok()?,
                crc32c: (crc32c.len() == 8).then(|| u32::from_str_radix(crc32c, 16).ok())??,
            })
        });
        ready.unwrap_or(Self::Other)
    }

    /// The name of a whole segment.
    pub(super) fn ready(segment: &SegmentName, crc32c: u32) -> OsString {
        format!("{segment}-{crc32c:08x}").into()
    }

    /// The name of a segment on its way.
    pub(super) fn part(segment: &SegmentName) -> OsString {
        format!("{segment}.part").into()
    }
}

/// A directory that nobody else can write into: it may lie in a place where everybody can.
fn own_directory(path: &Path) -> Result<(), SpaceError> {
    let failed = |source| SpaceError::Directory {
        path: path.to_owned(),
        source,
    };
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let stat = std::fs::symlink_metadata(path).map_err(failed)?;
    let ours = stat.uid() == rustix::process::getuid().as_raw();
    if !stat.is_dir() || !ours || stat.mode() & 0o077 != 0 {
        return Err(SpaceError::NotOurs {
            path: path.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_junk_is_none_of_ours() {
        let segment: SegmentName = "0000000100000000000000A1".parse().unwrap();
        let name = Entry::ready(&segment, 0xA1);
        let crc32c = 0xA1;
        assert_eq!(
            Entry::of(name.to_str().unwrap()),
            Entry::Ready { segment, crc32c }
        );
        let name = Entry::part(&segment);
        assert_eq!(Entry::of(name.to_str().unwrap()), Entry::Part(segment));
        for name in [
            "0000000100000000000000A1",
            "0000000100000000000000A1-1",
            "log",
            "x.part",
        ] {
            assert_eq!(Entry::of(name), Entry::Other, "{name}");
        }
    }

    #[test]
    fn another_cluster_system_or_bucket_has_a_space_of_its_own_and_a_strangers_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let open = |prefix: &str, system, source: &str| {
            let prefix = prefix.parse().unwrap();
            let space = Space::open(
                &folder.path().join("space"),
                &prefix,
                SystemId::new(system),
                &[source.to_owned()],
            );
            space.map(|space| space.path().to_owned())
        };
        let first = open("wal/", 7, "a").unwrap();
        assert_eq!(first, open("wal/", 7, "a").unwrap());
        for other in [
            open("x/", 7, "a"),
            open("wal/", 8, "a"),
            open("wal/", 7, "b"),
        ] {
            assert_ne!(first, other.unwrap());
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&first, mode).unwrap();
        let error = open("wal/", 7, "a").unwrap_err();
        assert!(matches!(error, SpaceError::NotOurs { .. }), "{error}");
    }
}
