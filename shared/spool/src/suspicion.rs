use walferry_proof::Sha256;
use walferry_wal::{HeaderError, HistoryError, LabelError, SegmentSize, SystemId};

use crate::people;

/// Why a file in the directory is not archived as it lies there.
///
/// It stays where it is in any case: nothing here deletes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Suspicion {
    #[error("the name is none that PostgreSQL gives to WAL")]
    NotAWalName,
    #[error("it is a symbolic link")]
    Symlink,
    #[error("it is not a regular file")]
    NotRegular,
    #[error("it may not be read: owner {}, mode {mode:04o}", people::user(*owner))]
    Unreadable { owner: u32, mode: u32 },
    #[error("it has {size} bytes, which is less than a segment{}", of(*expected))]
    Short {
        size: u64,
        /// What its header promises, when there is one.
        expected: Option<u64>,
    },
    #[error("its first page contradicts its name or size: {0}")]
    HeaderMismatch(HeaderError),
    #[error("it belongs to system {found}, this cluster is {expected}")]
    OtherSystem { expected: SystemId, found: SystemId },
    #[error("it is a segment of {found}, this cluster's have {expected}")]
    OtherSize {
        expected: SegmentSize,
        found: SegmentSize,
    },
    #[error("its last line is not there yet")]
    IncompleteHistory,
    #[error("it is no timeline history: {0}")]
    BadHistory(HistoryError),
    #[error("its last line is not there yet")]
    IncompleteLabel,
    #[error("it is no backup label: {0}")]
    BadLabel(LabelError),
    #[error("the label inside is that of another backup than its name says")]
    LabelOfAnother,
    #[error("it holds {found}, archived under this name is {recorded}")]
    OtherContent { recorded: Sha256, found: Sha256 },
}

impl Suspicion {
    /// Whether a writer at work explains it: "not yet" for a minute, an error after that.
    #[must_use]
    pub fn transient(&self) -> bool {
        match self {
            Self::Unreadable { .. }
            | Self::Short { .. }
            | Self::IncompleteHistory
            | Self::IncompleteLabel => true,
            Self::NotAWalName
            | Self::Symlink
            | Self::NotRegular
            | Self::HeaderMismatch(_)
            | Self::OtherSystem { .. }
            | Self::OtherSize { .. }
            | Self::BadHistory(_)
            | Self::BadLabel(_)
            | Self::LabelOfAnother
            | Self::OtherContent { .. } => false,
        }
    }

    /// A bounded set of labels, for rows and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAWalName => "not-a-wal-name",
            Self::Symlink => "symlink",
            Self::NotRegular => "not-regular",
            Self::Unreadable { .. } => "unreadable",
            Self::Short { .. } => "short",
            Self::HeaderMismatch(_) => "header-mismatch",
            Self::OtherSystem { .. } => "other-system",
            Self::OtherSize { .. } => "other-size",
            Self::IncompleteHistory => "incomplete-history",
            Self::BadHistory(_) => "bad-history",
            Self::IncompleteLabel => "incomplete-label",
            Self::BadLabel(_) => "bad-label",
            Self::LabelOfAnother => "label-of-another",
            Self::OtherContent { .. } => "other-content",
        }
    }

    /// The way out, one sentence.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotAWalName => {
                "somebody else put it there: move it away, or put it aside with `walferry quarantine move`"
            }
            Self::Symlink | Self::NotRegular => {
                "only regular files are archived: remove it, or put it aside with `walferry quarantine move`"
            }
            Self::Unreadable { .. } => {
                "give the worker's group read permission: `walferry push` sets 0640 itself; for basic_archive run the worker as the server's user or use `initdb --allow-group-access`"
            }
            Self::Short { .. } | Self::IncompleteHistory | Self::IncompleteLabel => {
                "when no copy is under way any more, `walferry quarantine move` puts it aside and PostgreSQL can hand it over again"
            }
            Self::HeaderMismatch(_)
            | Self::BadHistory(_)
            | Self::BadLabel(_)
            | Self::LabelOfAnother => {
                "it was renamed or damaged: compare it with pg_wal, then put it aside with `walferry quarantine move`, so that PostgreSQL can hand it over again"
            }
            Self::OtherSystem { .. } => {
                "each database system needs a directory and a cluster of its own; after pg_upgrade run `walferry cluster upgrade`"
            }
            Self::OtherSize { .. } => {
                "after pg_resetwal --wal-segsize a name stands for another position: give the server a directory and a cluster of its own, and take a base backup"
            }
            Self::OtherContent { .. } => {
                "two servers write the same timeline: stop one of them, compare both files, then put the wrong one aside with `walferry quarantine move`"
            }
        }
    }
}

fn of(expected: Option<u64>) -> String {
    expected.map_or_else(String::new, |bytes| format!(" of {bytes} bytes"))
}
