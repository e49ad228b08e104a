//! How base backups are taken.
//!
//! Reads: `WALFERRY_BACKUP_SLICE_SIZE`, `…_LEVEL`, `…_MAX_RATE`, `…_STALL`,
//! `…_SERVER_STALL`, `…_FAST_CHECKPOINT`.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::problem::Refusal;
use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value;

static SLICE_SIZE: Setting = Setting::new(
    "backup.slice_size",
    "bytes of the database in one object of a base backup, 1MiB to 1GiB; memory is this times the packing threads and a few",
)
.default("32MiB");
static LEVEL: Setting = Setting::new("backup.level", "gzip level of base backups").default("6");
static MAX_RATE: Setting = Setting::new(
    "backup.max_rate",
    "bytes per second that the server reads for a base backup at most, 32KiB to 1GiB; `none` for no limit",
)
.default("none");
static STALL: Setting = Setting::new(
    "backup.stall",
    "a repository that finishes no object of a base backup for so long is dropped from it, and gets it later from another",
)
.default("60s");
static SERVER_STALL: Setting = Setting::new(
    "backup.server_stall",
    "how long the server may send nothing, its first checkpoint apart",
)
.default("10m");
static FAST_CHECKPOINT: Setting = Setting::new(
    "backup.fast_checkpoint",
    "begin with a checkpoint at once; `false` spreads it as the server's own, which loads it less and takes minutes",
)
.default("true");

pub(crate) const SETTINGS: &[&Setting] = &[
    &SLICE_SIZE,
    &LEVEL,
    &MAX_RATE,
    &STALL,
    &SERVER_STALL,
    &FAST_CHECKPOINT,
];

#[derive(Clone, Debug)]
pub struct Backup {
    /// Bytes, 1 MiB to 1 GiB.
    pub slice_size: u64,
    /// 1 to 9.
    pub level: u8,
    /// KiB per second, as the protocol has it; `None` for no limit.
    pub max_rate: Option<NonZeroU64>,
    pub stall: Duration,
    pub server_stall: Duration,
    pub fast_checkpoint: bool,
}

impl Section for Backup {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let slice_size = reader.value(&SLICE_SIZE, value::bytes_between(1 << 20, 1 << 30));
        let level = reader.value(&LEVEL, value::between(1, 9));
        let max_rate = reader.value(&MAX_RATE, max_rate);
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let stall = reader.value(&STALL, value::duration(second, day));
        let server_stall = reader.value(&SERVER_STALL, value::duration(second, day));
        let fast_checkpoint = reader.value(&FAST_CHECKPOINT, value::boolean);
        Some(Self {
            slice_size: slice_size?,
            level: level?,
            max_rate: max_rate?,
            stall: stall?,
            server_stall: server_stall?,
            fast_checkpoint: fast_checkpoint?,
        })
    }
}

/// A rate as the settings write it, in KiB per second: `64MiB`, or `none`.
///
/// # Errors
/// What is wrong with the text, for a flag's usage error.
pub fn parse_rate(text: &str) -> Result<Option<NonZeroU64>, String> {
    max_rate(text).map_err(|refusal| format!("{}; {}", refusal.message, refusal.hint))
}

/// The bounds are PostgreSQL's, which counts in KiB.
fn max_rate(text: &str) -> Result<Option<NonZeroU64>, Refusal> {
    if matches!(text, "none" | "off") {
        return Ok(None);
    }
    let bytes = value::bytes_between(32 << 10, 1 << 30)(text)?;
    Ok(NonZeroU64::new(bytes / 1024))
}
