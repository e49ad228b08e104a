//! Why a file goes, why it stays, and what a person should know: in words and in JSON.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use walferry_proof::RepositoryName;
use walferry_wal::{SegmentName, TimelineId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Older than the window, and no base backup is known: by age alone.
    AgeAlone,
    /// Older than the window, and no known base backup needs it.
    NeededByNoBase,
    /// An earlier run began to delete it and did not come to the end.
    Begun,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
pub enum Because {
    /// History files are never deleted.
    History,
    /// Not verified in every required repository.
    NotVerified,
    /// Somebody works on it, or it still lies in an archive directory.
    Busy,
    WithinWindow,
    /// Needed to recover from this base backup.
    NeededByBase {
        segment: SegmentName,
        stopped_at: DateTime<Utc>,
    },
    /// Makes a base backup consistent that a person keeps, `walferry backups keep`.
    NeededByKeptBase {
        label: String,
    },
    /// Its name fits no segment size of this cluster, or the size is not known.
    NotNumbered,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "warning", rename_all = "kebab-case")]
pub enum Warning {
    /// The loud one: no base backup of ours is here, and no `.backup` label was ever archived.
    NoBaseKnown {
        cutoff: DateTime<Utc>,
    },
    /// Bases are known, but none from before the window whose WAL is complete there.
    NoBaseBeforeWindow {
        repository: RepositoryName,
        cutoff: DateTime<Utc>,
    },
    /// A base from before the window that does not count, as WAL of its own is not there.
    BaseIncomplete {
        repository: RepositoryName,
        segment: SegmentName,
    },
    /// The newest timeline cannot be reached from any base from before the window.
    NewestTimelineNotReached {
        repository: RepositoryName,
    },
    /// Without its history file nobody knows what a timeline needs.
    HistoryMissing {
        timeline: TimelineId,
    },
    SegmentSizeUnknown,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AgeAlone => "older than the window; no base backup is known",
            Self::NeededByNoBase => "older than the window and needed by no known base backup",
            Self::Begun => "an earlier run began to delete it",
        })
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::History => f.write_str("history files are never deleted"),
            Self::NotVerified => f.write_str("not verified in every required repository"),
            Self::Busy => f.write_str("being worked on, or still in an archive directory"),
            Self::WithinWindow => f.write_str("archived within the window"),
            Self::NeededByBase {
                segment,
                stopped_at,
            } => write!(
                f,
                "needed by the base backup from `{segment}` that ended {}",
                stopped_at.format("%Y-%m-%d %H:%M UTC")
            ),
            Self::NeededByKeptBase { label } => {
                write!(f, "needed by base backup {label}, which is kept")
            }
            Self::NotNumbered => {
                f.write_str("the cluster's segment size is not known or the name does not fit it")
            }
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = |time: &DateTime<Utc>| time.format("%Y-%m-%d %H:%M UTC").to_string();
        match self {
            Self::NoBaseKnown { cutoff } => write!(
                f,
                "the recovery window is NOT PROVEN: no base backup is known, WAL older than {} is deleted by age alone. HINT: `walferry backup` takes one, and one by `pg_basebackup` from the primary counts when its `.backup` label is archived; until then make sure that a base from before that time exists, or run `walferry retention hold`",
                day(cutoff)
            ),
            Self::NoBaseBeforeWindow { repository, cutoff } => write!(
                f,
                "the recovery window is NOT PROVEN in `{repository}`: no base backup complete before {} has its WAL verified there",
                day(cutoff)
            ),
            Self::BaseIncomplete {
                repository,
                segment,
            } => write!(
                f,
                "the base backup from `{segment}` does not count in `{repository}`: not all WAL from its start to its stop is verified there"
            ),
            Self::NewestTimelineNotReached { repository } => write!(
                f,
                "the recovery window is NOT PROVEN in `{repository}`: no base backup from before it reaches the newest timeline, or a history file is missing"
            ),
            Self::HistoryMissing { timeline } => write!(
                f,
                "`{timeline}.history` is not archived: WAL is kept that may not be needed. HINT: copy it from `pg_wal` of the server into the archive directory"
            ),
            Self::SegmentSizeUnknown => {
                f.write_str("the cluster's segment size is not known yet: nothing is deleted")
            }
        }
    }
}
