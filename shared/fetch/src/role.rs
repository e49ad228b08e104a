//! Who runs PostgreSQL's `restore_command`: a recovery, or a standby.

use std::path::Path;

use crate::verdict::{Final, Verdict};

/// What PostgreSQL does with "no such file".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes it for the end of WAL, and may promote.
    Recovery,
    /// It asks again in a few seconds, for ever; any code above 125 shuts it down.
    Standby,
}

/// A standby does not end recovery on a "no", so it may be given one without a proof.
#[derive(Debug)]
pub struct StandbyAsksAgain(());

impl Role {
    /// As PostgreSQL decides it: `standby.signal` wins, whatever else lies there.
    #[must_use]
    pub fn of_directory(directory: &Path) -> Self {
        // Not to be looked at is not there: then the safe code is given.
        if directory
            .join("standby.signal")
            .try_exists()
            .unwrap_or(false)
        {
            Self::Standby
        } else {
            Self::Recovery
        }
    }

    /// What is said when it could not be found out whether the file exists.
    #[must_use]
    pub fn not_known(self) -> Verdict {
        match self {
            Self::Recovery => Verdict::NotKnown,
            Self::Standby => Verdict::NotThere(Final::StandbyAsksAgain(StandbyAsksAgain(()))),
        }
    }
}
