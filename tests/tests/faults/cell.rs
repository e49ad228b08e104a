//! What came of a cell, left for `docs/faults.md`.

use std::time::Duration;

use serde_json::json;
use walferry_tests::environment::target;

/// What a cell showed, written when it is over and green.
pub(crate) struct Cell<'a> {
    /// `kill.push.rename.after`, `clouds.r2.refused`.
    pub(crate) name: &'a str,
    /// `at rest` or `under load`.
    pub(crate) mode: &'a str,
    /// What a person sees, in a few words.
    pub(crate) outcome: &'a str,
    /// From the end of the fault until everything handed over was VERIFIED.
    pub(crate) recovered: Duration,
}

impl Cell<'_> {
    /// Leaves it in `target/test-results/faults/`.
    pub(crate) fn record(&self) {
        let folder = target().join("test-results/faults");
        std::fs::create_dir_all(&folder).expect("make the folder of results");
        let json = json!({
            "name": self.name,
            "mode": self.mode,
            "outcome": self.outcome,
            "seconds": (self.recovered.as_secs_f64() * 10.0).round() / 10.0,
        });
        let file = folder.join(format!(
            "{}.{}.json",
            self.name,
            self.mode.replace(' ', "-")
        ));
        std::fs::write(file, json.to_string()).expect("write a result");
    }
}
