//! When what a segment holds was committed: its records' times, positions and xids.
//!
//! Sources: PostgreSQL `src/include/access/xlog_internal.h` (pages), `access/xlogrecord.h`
//! (records), `access/xact.h` and `catalog/pg_control.h` (their bodies), and
//! `src/backend/access/transam/xlogreader.c` (what makes a record valid). Versions 13 to 18.

mod event;
mod segment;

mod body;
mod cursor;
mod pages;
mod record;
mod walk;

#[cfg(test)]
mod made;
#[cfg(test)]
mod tests;

pub use event::{Ending, Event, Events};
pub use segment::{RecordsError, events};
