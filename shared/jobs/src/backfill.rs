use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::JobKind;

/// Archive the segments of a directory that is not watched, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backfill {
    pub cluster: String,
    /// A path as the worker sees it.
    pub directory: String,
    /// First WAL file name, included; `None` is from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Last WAL file name, included; `None` is to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Backfill {
    /// The directory, if it is one that a worker goes to: a path from the root that does not
    /// climb, without a character that only a terminal understands.
    #[must_use]
    pub fn whole_path(&self) -> Option<&Path> {
        let path = Path::new(&self.directory);
        let climbs = path
            .components()
            .any(|part| matches!(part, Component::ParentDir));
        let plain = !self.directory.chars().any(char::is_control);
        (path.is_absolute() && !climbs && plain).then_some(path)
    }
}

impl JobKind for Backfill {
    const NAME: &'static str = "backfill";
    const VERSION: u32 = 1;
    /// The default of `walferry enqueue backfill`; the live archive goes first.
    const PRIORITY: u8 = 5;
}
