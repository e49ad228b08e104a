use chrono::{DateTime, Utc};

use crate::{Lsn, TimelineId};

/// What happened in one segment, in the order of WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    pub events: Vec<Event>,
    /// Behind the last whole record; the segment's first byte when no record ends in it.
    pub ends_at: Lsn,
    pub ending: Ending,
    /// Valid records that should be events but whose body is of no known form.
    pub unreadable: Vec<Lsn>,
}

/// Why the walk went no further than [`Events::ends_at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The last record fills the segment to its last byte.
    Full,
    /// The server was told to switch: nothing more is in the segment. `ends_at` is its end.
    Switch,
    /// A record goes on in the next segment. What it is shows only there.
    Continues,
    /// What follows is no valid record: the end of WAL, or damage.
    EndOfWal,
}

/// A record that recovery can stop at, or that tells a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transaction was committed, a prepared one too.
    Commit {
        /// The record's first byte.
        lsn: Lsn,
        /// Behind its last byte.
        end: Lsn,
        /// That of the transaction, also where another session committed it.
        xid: u32,
        time: DateTime<Utc>,
    },
    /// A transaction was rolled back, a prepared one too.
    Abort {
        lsn: Lsn,
        end: Lsn,
        xid: u32,
        time: DateTime<Utc>,
    },
    /// `pg_create_restore_point`.
    RestorePoint {
        lsn: Lsn,
        end: Lsn,
        /// At most 63 bytes; those that are not UTF-8 replaced.
        name: String,
        time: DateTime<Utc>,
    },
    /// A checkpoint was completed.
    Checkpoint {
        lsn: Lsn,
        end: Lsn,
        /// Where replay from this checkpoint begins.
        redo: Lsn,
        timeline: TimelineId,
        /// Whole seconds, when it began. No recovery target is measured by it.
        time: DateTime<Utc>,
    },
}

impl Event {
    /// The record's first byte.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        match self {
            Self::Commit { lsn, .. }
            | Self::Abort { lsn, .. }
            | Self::RestorePoint { lsn, .. }
            | Self::Checkpoint { lsn, .. } => *lsn,
        }
    }

    /// Behind the record's last byte.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        match self {
            Self::Commit { end, .. }
            | Self::Abort { end, .. }
            | Self::RestorePoint { end, .. }
            | Self::Checkpoint { end, .. } => *end,
        }
    }

    #[must_use]
    pub const fn time(&self) -> DateTime<Utc> {
        match self {
            Self::Commit { time, .. }
            | Self::Abort { time, .. }
            | Self::RestorePoint { time, .. }
            | Self::Checkpoint { time, .. } => *time,
        }
    }
}
