//! What PostgreSQL is told, and the exit code that says it.

use crate::absence::AbsentEverywhere;
use crate::place::Delivered;
use crate::role::StandbyAsksAgain;

/// The exit code of everything that is neither a delivery nor a proof of absence.
///
/// Above 125, so that recovery stops instead of ending early and promoting; above 128 and no
/// 128 + signal, so that nobody takes it for a signal (143 PostgreSQL takes for its own
/// shutdown); and none that a shell makes (126, 127).
pub const EXIT_UNKNOWN: u8 = 200;

/// How a fetch ended.
#[derive(Debug)]
pub enum Verdict {
    /// It lies where it was asked for.
    Delivered(Delivered),
    /// PostgreSQL may believe that there is no such file.
    NotThere(Final),
    /// Nobody knows; recovery has to stop.
    NotKnown,
}

/// Why PostgreSQL may be told "no such file".
#[derive(Debug)]
pub enum Final {
    /// Everybody who was to be asked has shown it.
    Absent(AbsentEverywhere),
    /// It does no harm: the asker is a standby.
    StandbyAsksAgain(StandbyAsksAgain),
}

impl Verdict {
    /// The exit code: 0, 1 or [`EXIT_UNKNOWN`].
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Delivered(_) => 0,
            Self::NotThere(Final::Absent(_) | Final::StandbyAsksAgain(_)) => 1, // the only 1
            Self::NotKnown => EXIT_UNKNOWN,
        }
    }
}
