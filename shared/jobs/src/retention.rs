use serde::{Deserialize, Serialize};

use crate::JobKind;

/// Apply the retention policy to every cluster of the catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {}

impl JobKind for Retention {
    const NAME: &'static str = "retention";
    const VERSION: u32 = 1;
    /// Below archiving: deleting can always wait for a segment.
    const PRIORITY: u8 = 3;
}
