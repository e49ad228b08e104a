//! What PostgreSQL's WAL files are called, what their first bytes say, and when what they
//! hold was committed.
//!
//! Pure: no I/O, no async, no clouds. Sources: PostgreSQL `src/include/access/xlog_internal.h`
//! (names, page headers), `src/backend/access/transam/timeline.c` (history files),
//! `xlogbackup.c` (backup labels), `src/include/catalog/pg_control.h` (the control file); those
//! of [`records`] are named there.

pub mod control;
mod file;
mod header;
mod history;
mod label;
mod lsn;
mod name;
pub mod records;
mod size;
mod timeline;

pub use file::{FileKind, WalFile};
pub use header::{HeaderError, PageHeader, UnknownMagic, postgres_version};
pub use history::{History, HistoryEntry, HistoryError};
pub use label::{BackupFrom, Label, LabelError};
pub use lsn::Lsn;
pub use name::{NameError, SegmentName};
pub use size::{SegmentSize, SegmentSizeError};
pub use timeline::{SystemId, TimelineId};

/// Implements serde through `Display` and `FromStr`: one spelling everywhere.
macro_rules! serde_as_text {
    ($name:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;
