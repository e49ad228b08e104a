//! Words of the code that are values of labels, and of one gauge.

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClaimOutcome {
    Claimed,
    Completed,
    /// Given back with copies still due, as while a cloud is down.
    Waiting,
    /// Given back without an attempt, as while draining.
    Released,
    /// The file could not be read, or the catalog not be written.
    Failed,
    /// Another worker has it by now.
    Lost,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BreakerState {
    Closed,
    HalfOpen,
    Open,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JobOutcome {
    Done,
    Retried,
    GivenBack,
    Dead,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EnqueueOutcome {
    Added,
    Duplicate,
    Failed,
}

impl ClaimOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Completed => "completed",
            Self::Waiting => "waiting",
            Self::Released => "released",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

impl BreakerState {
    pub(super) fn value(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

impl JobOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retried => "retried",
            Self::GivenBack => "given_back",
            Self::Dead => "dead",
        }
    }
}

impl EnqueueOutcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Duplicate => "duplicate",
            Self::Failed => "failed",
        }
    }
}
