use rustix::fs::{FileType, Stat};

/// Which file a name stands for, and what it looked like at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    pub dev: u64,
    pub ino: u64,
    /// In bytes.
    pub size: u64,
    /// Time of the last write, in nanoseconds since 1970.
    pub mtime_ns: i64,
    pub uid: u32,
    pub gid: u32,
    /// Permission bits, without the type.
    pub mode: u32,
}

impl FileId {
    /// A file as somebody wrote it down: compare with `unchanged`, which asks for no more.
    #[must_use]
    pub const fn recorded(dev: u64, ino: u64, size: u64, mtime_ns: i64) -> Self {
        Self {
            dev,
            ino,
            size,
            mtime_ns,
            uid: 0,
            gid: 0,
            mode: 0,
        }
    }

    /// Whether it is the same file with nothing written since.
    ///
    /// Owner and mode may differ: the old `archive_command` changes the mode afterwards, and
    /// that touches no content.
    #[must_use]
    pub fn unchanged(&self, other: &Self) -> bool {
        (self.dev, self.ino, self.size, self.mtime_ns)
            == (other.dev, other.ino, other.size, other.mtime_ns)
    }

    /// Whether it is the same inode, written to or not.
    #[must_use]
    pub fn same_inode(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    #[expect(
        clippy::unnecessary_cast,
        reason = "the widths of `Stat` depend on the platform"
    )]
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: (stat.st_mtime as i64)
                .saturating_mul(1_000_000_000)
                .saturating_add(stat.st_mtime_nsec as i64),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode as u32 & 0o7777,
        }
    }
}

pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
