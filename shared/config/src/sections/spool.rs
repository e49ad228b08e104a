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
