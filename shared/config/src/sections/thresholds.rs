//! From when on `check` and `status` complain.
//!
//! Reads: `WALFERRY_THRESHOLDS_RPO`, `…_FAILURES_WINDOW`,
//! `…_HANDOVER_SILENCE`, `…_DIRECTORY_USE`.

use std::time::Duration;

use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value::{self, Share};

static RPO: Setting = Setting::new(
    "thresholds.rpo",
    "age of the last moment that could be restored",
)
.default("15m");
static FAILURES_WINDOW: Setting = Setting::new(
    "thresholds.failures_window",
    "any failure within it is told",
)
.default("1h");
static HANDOVER_SILENCE: Setting = Setting::new(
    "thresholds.handover_silence",
    "how long PostgreSQL may hand over nothing",
)
.default("15m");
static DIRECTORY_USE: Setting = Setting::new(
    "thresholds.directory_use",
    "use of the archive directory's limit or file system",
)
.default("80%");

pub(crate) const SETTINGS: &[&Setting] =
    &[&RPO, &FAILURES_WINDOW, &HANDOVER_SILENCE, &DIRECTORY_USE];

#[derive(Clone, Debug)]
pub struct Thresholds {
    pub rpo: Duration,
    pub failures_window: Duration,
    pub handover_silence: Duration,
    pub directory_use: Share,
}

impl Section for Thresholds {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let span = || value::duration(Duration::from_secs(1), Duration::from_secs(30 * 86_400));
        let rpo = reader.value(&RPO, span());
        let failures_window = reader.value(&FAILURES_WINDOW, span());
        let handover_silence = reader.value(&HANDOVER_SILENCE, span());
        let directory_use = reader.value(&DIRECTORY_USE, value::share);
        Some(Self {
            rpo: rpo?,
            failures_window: failures_window?,
            handover_silence: handover_silence?,
            directory_use: directory_use?,
        })
    }
}
