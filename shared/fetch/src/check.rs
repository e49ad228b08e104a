//! Whether what was unpacked is the file that was asked for.

use walferry_layout::metadata::{self, MetadataError, ObjectMetadata};
use walferry_proof::Sha256;
use walferry_store::Metadata;
use walferry_wal::{
    HeaderError, History, HistoryError, Label, LabelError, PageHeader, SystemId, WalFile,
};

use crate::unpack::Unpacked;

/// What a copy is not.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    #[error("it does not unpack")]
    Unpack(#[source] std::io::Error),
    #[error("what it says of itself cannot be read")]
    Metadata(#[from] MetadataError),
    #[error("it has {found} bytes, {expected} were archived")]
    Size { expected: u64, found: u64 },
    #[error("its SHA-256 is {found}, that of the archived file is {expected}")]
    Sha256 { expected: Sha256, found: Sha256 },
    #[error("it belongs to system {found}, not to {expected}")]
    System { expected: SystemId, found: SystemId },
    #[error("it is not what its name says")]
    Header(#[from] HeaderError),
    #[error("it is no history of its timeline")]
    History(#[from] HistoryError),
    #[error("it is no label of a base backup")]
    Label(#[from] LabelError),
    #[error("it is the label of another base backup")]
    LabelOfAnother,
}

/// What a copy was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Size and SHA-256 of what was archived, and what the name says.
    Whole,
    /// The object was put there by another system and says nothing of itself: gzip's own
    /// CRC-32 and size, and what the name says.
    WithoutHash,
}

/// What an object says about itself; `None` if it says nothing at all.
pub(crate) fn told(map: &Metadata) -> Result<Option<ObjectMetadata>, Mismatch> {
    // Any of ours is there: then all have to be. Only an object that was never ours, adopted by
    // `walferry import`, may come without.
    let ours = [metadata::SHA256, metadata::SIZE, metadata::SYSTEM_ID];
    if ours.iter().all(|name| !map.contains_key(*name)) {
        return Ok(None);
    }
    Ok(Some(ObjectMetadata::from_map(map)?))
}

/// Compares with what the object says of itself, with the name, and with the system.
pub(crate) fn compare(
    file: &WalFile,
    system: SystemId,
    told: Option<&ObjectMetadata>,
    found: &Unpacked,
) -> Result<Compared, Mismatch> {
    if let Some(told) = told {
        if told.size != found.size {
            return Err(Mismatch::Size {
                expected: told.size,
                found: found.size,
            });
        }
        if told.sha256 != found.sha256 {
            return Err(Mismatch::Sha256 {
                expected: told.sha256,
                found: found.sha256,
            });
        }
        // A history file or label does not say whose it is.
        if told.system_id != system {
            return Err(Mismatch::System {
                expected: system,
                found: told.system_id,
            });
        }
    }
    content(file, system, &found.head, found.size)?;
    Ok(if told.is_some() {
        Compared::Whole
    } else {
        Compared::WithoutHash
    })
}

/// Compares the first bytes (all of them, for a history file or label) with the name.
pub(crate) fn content(
    file: &WalFile,
    system: SystemId,
    head: &[u8],
    size: u64,
) -> Result<(), Mismatch> {
    match file {
        WalFile::Segment(name) | WalFile::Partial(name) => {
            // An unknown magic is a newer PostgreSQL's: that one will know it.
            PageHeader::parse(head)?.check(name, size, Some(system))?;
        }
        WalFile::History(timeline) => drop(History::parse(*timeline, head)?),
        WalFile::Label { segment, offset } => {
            let label = Label::parse(head)?;
            // Whatever the segment size, the low 20 bits of a position are those of its offset.
            let low = (1 << 20) - 1;
            let at = label.start_lsn.get() & low == u64::from(*offset) & low;
            if label.start_segment != *segment || !at {
                return Err(Mismatch::LabelOfAnother);
            }
        }
    }
    Ok(())
}

/// So many of the first bytes are needed to compare.
pub(crate) fn head_size(file: &WalFile) -> usize {
    match file {
        WalFile::Segment(_) | WalFile::Partial(_) => PageHeader::SIZE,
        WalFile::History(_) | WalFile::Label { .. } => 1 << 20,
    }
}

/// More than so much cannot be the file (PostgreSQL `xlog_internal.h`, `IsValidWalSegSize`).
pub(crate) fn largest(file: &WalFile) -> u64 {
    match file {
        WalFile::Segment(_) | WalFile::Partial(_) => 1 << 30,
        WalFile::History(_) | WalFile::Label { .. } => 1 << 20,
    }
}
