//! What goes into a base, and what comes of it.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use walferry_layout::base::{BaseLabel, BegunBase, CompleteBase};
use walferry_proof::{KeyPrefix, RepositoryName};
use walferry_wal::{SegmentSize, SystemId};

use crate::lane::DropReason;
use crate::packing::PackingError;
use crate::source::SourceError;

/// What the server's stream does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseFacts {
    /// The cluster's name; for people.
    pub cluster: String,
    /// Of the cluster's WAL, `wal/`.
    pub prefix: KeyPrefix,
    pub system_id: SystemId,
    pub segment_size: SegmentSize,
    /// As `server_version_num` has it: 150018.
    pub server_version: u32,
    pub from_standby: bool,
    /// The server's clock when the base began, with fractions of a second as a clock has them:
    /// they tell two bases apart that began in the same second. Names the base:
    /// [`BaseLabel::at`].
    pub started_at: DateTime<Utc>,
    /// How far the server's clock is ahead of ours: the base's end is read from ours.
    pub clock_ahead: TimeDelta,
}

/// A base that is complete in at least one repository.
#[derive(Debug)]
pub struct Taken {
    pub base: CompleteBase,
    /// In the order in which the repositories were given.
    pub complete_in: Vec<RepositoryName>,
    /// Those that `copy` has to bring it to. What they hold of it is left there and used then;
    /// until then `clean` must be told to leave the label alone.
    pub dropped: Vec<Dropped>,
}

/// A repository that has no part in a base.
#[derive(Debug)]
pub struct Dropped {
    pub repository: RepositoryName,
    pub reason: DropReason,
}

/// No repository has the base.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error("there is no repository to store a base backup in")]
    NoRepository,
    /// Take it under another label: the next second's.
    #[error("base backup {label} is in `{repository}` already, taken by somebody else")]
    LabelTaken {
        repository: RepositoryName,
        label: BaseLabel,
    },
    #[error("the server did not send the base backup to its end")]
    Source(#[source] SourceError),
    #[error("the server sent {0} where it does not belong")]
    Unexpected(String),
    #[error("the server ended the base backup without {0}")]
    Missing(String),
    #[error("pack the base backup")]
    Packing(#[from] PackingError),
    #[error("no repository took the base backup: {}", each(.0))]
    AllDropped(Vec<Dropped>),
    #[error("the base backup was cancelled")]
    Cancelled,
}

fn each(dropped: &[Dropped]) -> String {
    let texts: Vec<String> = dropped.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl BaseFacts {
    /// The label that the base gets.
    #[must_use]
    pub fn label(&self) -> BaseLabel {
        BaseLabel::at(self.started_at)
    }

    pub(crate) fn begun(&self) -> BegunBase {
        BegunBase {
            format: CompleteBase::FORMAT,
            label: self.label(),
            cluster: self.cluster.clone(),
            system_id: self.system_id,
            started_at: self.started_at,
        }
    }
}

impl fmt::Display for Dropped {
    /// With all causes, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.repository, self.reason)?;
        let mut source = std::error::Error::source(&self.reason);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
