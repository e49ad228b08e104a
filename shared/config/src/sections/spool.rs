//! The archive directory as `push` fills it.
//!
//! Reads: `WALFERRY_SPOOL_LIMIT`, `WALFERRY_SPOOL_FILE_MODE`.

use crate::problem::Refusal;
use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value::{self, Share};

static LIMIT: Setting = Setting::new(
    "spool.limit",
    "where `push` refuses, so that PostgreSQL keeps the segment: a size of the directory (50GiB) or a share of its file system (95%); `none` for no limit",
)
.default("95%");
static FILE_MODE: Setting =
    Setting::new("spool.file_mode", "mode of a file that `push` stores").default("0640");

pub(crate) const SETTINGS: &[&Setting] = &[&LIMIT, &FILE_MODE];

#[derive(Clone, Debug)]
pub struct Spool {
    pub limit: Option<SpoolLimit>,
    pub file_mode: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SpoolLimit {
    /// Of all files in the directory.
    Bytes(u64),
    /// Of the file system that the directory is on, whoever uses it.
    Share(Share),
}

impl Spool {
    /// Bytes that `push` still takes into a directory that holds `bytes`.
    pub fn room(&self, bytes: u64, fs_total: u64, fs_available: u64) -> u64 {
        match self.limit {
            None => fs_available,
            Some(SpoolLimit::Bytes(limit)) => fs_available.min(limit.saturating_sub(bytes)),
            Some(SpoolLimit::Share(share)) => {
                let kept_free = (fs_total as f64 * (1.0 - share.get())).ceil() as u64;
                fs_available.saturating_sub(kept_free)
            }
        }
    }

    /// How full it is, 0 to 1: its file system, or its own limit where that is nearer.
    pub fn used(&self, bytes: u64, fs_total: u64, fs_available: u64) -> f64 {
        let of = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let file_system = of(fs_total.saturating_sub(fs_available), fs_total);
        match self.limit {
            Some(SpoolLimit::Bytes(limit)) => file_system.max(of(bytes, limit)),
            Some(SpoolLimit::Share(_)) | None => file_system,
        }
    }
}

impl Section for Spool {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let limit = reader.value(&LIMIT, limit);
        let file_mode = reader.value(&FILE_MODE, value::mode);
        Some(Self {
            limit: limit?,
            file_mode: file_mode?,
        })
    }
}

fn limit(text: &str) -> Result<Option<SpoolLimit>, Refusal> {
    if matches!(text, "none" | "off") {
        return Ok(None);
    }
    // Below the smallest segment nothing would ever get in.
    let bytes = value::bytes(1 << 20);
    if text.ends_with('%') || text.parse::<f64>().is_ok() {
        value::share(text).map(SpoolLimit::Share).map(Some)
    } else {
        bytes(text).map(SpoolLimit::Bytes).map(Some)
    }
}
