//! Where the time of a file that is packed whole goes, for metrics. Requests to the clouds tell
//! theirs themselves.

use std::time::Duration;

/// A part of a file's way through a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// For memory and a packing thread, and what is in no other stage.
    Wait,
    /// The local file.
    Read,
    /// SHA-256 of what was read.
    Hash,
    /// gzip.
    Compress,
    /// MD5 of what is stored.
    Md5,
    /// The two commits around the uploads.
    Catalog,
    /// The unlink and the commit after it.
    Delete,
}

impl Stage {
    /// Its label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Read => "read",
            Self::Hash => "hash",
            Self::Compress => "compress",
            Self::Md5 => "md5",
            Self::Catalog => "catalog",
            Self::Delete => "delete",
        }
    }
}

/// What packing one file took on its thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) read: Duration,
    pub(crate) hash: Duration,
    pub(crate) compress: Duration,
    pub(crate) md5: Duration,
}

impl Spent {
    /// By stage, with what is left of `whole` as waiting.
    pub(crate) fn of(self, whole: Duration) -> [(Stage, Duration); 5] {
        let Self {
            read,
            hash,
            compress,
            md5,
        } = self;
        let wait = whole.saturating_sub(read + hash + compress + md5);
        [
            (Stage::Wait, wait),
            (Stage::Read, read),
            (Stage::Hash, hash),
            (Stage::Compress, compress),
            (Stage::Md5, md5),
        ]
    }
}
