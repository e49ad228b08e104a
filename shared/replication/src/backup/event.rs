use bytes::Bytes;
use walferry_wal::{Lsn, TimelineId};

/// Where WAL replay has to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartPoint {
    /// The redo pointer of the backup's checkpoint.
    pub lsn: Lsn,
    pub timeline: TimelineId,
}

/// An archive that will come: a tablespace, or the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablespaceInfo {
    /// `None`: the data directory.
    pub oid: Option<u32>,
    /// Where it lies on the server; empty for the data directory.
    pub path: String,
    /// An estimate, before packing; files grow and go while they are read.
    pub size_kib: Option<u64>,
}

/// What a base backup is made of, in this order: each archive with its data, the manifest
/// with its data, the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupEvent {
    /// The data that follows is this tablespace's tar archive; `None`: the data directory's.
    Archive(Option<u32>),
    /// At most about 32 KiB, never empty; the pieces of an archive are one tar file, with its
    /// end.
    Data(Bytes),
    /// The data that follows is the manifest.
    Manifest,
    /// Bytes that the server has read up to now, of all archives; from 15 on.
    Progress(u64),
    /// The backup is complete, and the server has no objection to it: checksums, where the
    /// database has them, were good. Restoring it needs WAL up to here.
    End {
        stop_lsn: Lsn,
        stop_timeline: TimelineId,
    },
}
