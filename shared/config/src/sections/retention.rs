//! How long segments are kept.
//!
//! Reads: `WALFERRY_RETENTION_DAYS`, `…_MIN_BASES`, `…_MAX_DELETE_SHARE`,
//! `…_MAX_CLOCK_DIFFERENCE`.

use std::time::Duration;

use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value::{self, Share};

static DAYS: Setting = Setting::new(
    "retention.days",
    "the window in which any moment can be restored",
)
.default("30");
static MIN_BASES: Setting = Setting::new(
    "retention.min_bases",
    "so many of the newest complete base backups stay in each repository however old they are",
)
.default("1");
static MAX_DELETE_SHARE: Setting = Setting::new(
    "retention.max_delete_share",
    "a plan that deletes more of what is kept needs --yes",
)
.default("20%");
static MAX_CLOCK_DIFFERENCE: Setting = Setting::new(
    "retention.max_clock_difference",
    "nothing is deleted when our clock and a cloud's differ by more",
)
.default("10m");

pub(crate) const SETTINGS: &[&Setting] =
    &[&DAYS, &MIN_BASES, &MAX_DELETE_SHARE, &MAX_CLOCK_DIFFERENCE];

#[derive(Clone, Debug)]
pub struct Retention {
    /// At least 1.
    pub days: u32,
    /// At least 1.
    pub min_bases: usize,
    pub max_delete_share: Share,
    pub max_clock_difference: Duration,
}

impl Retention {
    pub fn window(&self) -> Duration {
        Duration::from_secs(u64::from(self.days) * 86_400)
    }
}

impl Section for Retention {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let days = reader.value(&DAYS, value::between(1, 36_500));
        let min_bases = reader.value(&MIN_BASES, value::between(1, 1000));
        let max_delete_share = reader.value(&MAX_DELETE_SHARE, value::share);
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let difference = reader.value(&MAX_CLOCK_DIFFERENCE, value::duration(least, most));
        Some(Self {
            days: days?,
            min_bases: min_bases?,
            max_delete_share: max_delete_share?,
            max_clock_difference: difference?,
        })
    }
}
