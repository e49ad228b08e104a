use serde::{Deserialize, Serialize};

use crate::JobKind;

/// Archive what waits in the directories that the worker serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContinuousWalArchiving {
    /// One cluster only; `None` (the scheduler's tick) is every cluster that
    /// the worker serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Tells the follow-up jobs of one backlog apart (each draws in one more
    /// idle worker); `None` in the scheduler's tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u32>,
}

impl JobKind for ContinuousWalArchiving {
    const NAME: &'static str = "continuous-wal-archiving";
    const VERSION: u32 = 1;
    const PRIORITY: u8 = 10;
}

impl ContinuousWalArchiving {
    /// The scheduler's tick.
    pub fn everything() -> Self {
        Self::default()
    }

    /// A call for one more worker, while a backlog lasts.
    pub fn follow_up(cluster: &str, ordinal: u32) -> Self {
        Self {
            cluster: Some(cluster.to_owned()),
            ordinal: Some(ordinal),
        }
    }
}
