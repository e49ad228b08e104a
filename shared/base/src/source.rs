//! Where a base backup comes from, as `take` sees it.

use async_trait::async_trait;
use bytes::Bytes;
use walferry_layout::base::TarArchive;
use walferry_wal::{Lsn, TimelineId};

/// Why a source ended before the base was whole.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// A server that sends a base backup. Dropped, it stops sending.
#[async_trait]
pub trait BaseSource: Send {
    /// Where recovery from the base begins.
    fn start(&self) -> SourceStart;

    /// The data directory and each tablespace.
    fn tablespaces(&self) -> Vec<SourceTablespace>;

    /// What comes next. After an error, and after `End`, nothing is asked for any more.
    ///
    /// # Errors
    /// Whatever ends the backup: there is no going on with a base that broke off.
    async fn next(&mut self) -> Result<SourceEvent, SourceError>;
}

/// Where recovery from a base begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceStart {
    pub lsn: Lsn,
    pub timeline: TimelineId,
}

/// A tar archive that the source is going to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTablespace {
    /// The data directory, or a tablespace by its OID.
    pub archive: TarArchive,
    /// Where a tablespace lies on the server; empty for the data directory.
    pub path: String,
    /// The server's estimate in bytes, if it made one.
    pub size: Option<u64>,
}

/// One message of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// The data that follows is this archive's.
    Archive(TarArchive),
    /// Bytes of the archive, or of the manifest, in any portions.
    Data(Bytes),
    /// The data that follows is `backup_manifest`.
    Manifest,
    /// Bytes sent so far, as the server counts them.
    Progress(u64),
    /// Everything was sent.
    End { lsn: Lsn, timeline: TimelineId },
}
