use serde::{Deserialize, Serialize};

use crate::JobKind;

/// Take a base backup of a cluster, and complete those that a cloud is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseBackup {
    pub cluster: String,
}

impl BaseBackup {
    /// At most one job waits for a cluster.
    #[must_use]
    pub fn unique_key(&self) -> String {
        format!("{}:{}", Self::NAME, self.cluster)
    }
}

impl JobKind for BaseBackup {
    const NAME: &'static str = "base-backup";
    const VERSION: u32 = 1;
    /// Below archiving and backfills, without which a base is worth nothing; above retention,
    /// to which every base is a reason to keep.
    const PRIORITY: u8 = 4;
}
