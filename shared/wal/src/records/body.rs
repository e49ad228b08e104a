use chrono::{DateTime, TimeDelta, Utc};

use super::Event;
use super::cursor::Cursor;
use super::record::{Record, TRANSACTION, XLOG};
use crate::{Lsn, TimelineId};

/// What a record means to recovery.
pub(super) enum Body {
    Event(Event),
    Other,
    /// By its header it is an event; its body is of no known form.
    Unreadable,
}

pub(super) fn body(record: &Record<'_>, version: u8) -> Body {
    let info = record.header.info;
    let event = match record.header.manager {
        XLOG => match info & 0xF0 {
            0x00 | 0x10 => checkpoint(record),
            0x70 => restore_point(record),
            _ => return Body::Other,
        },
        TRANSACTION => match info & 0x70 {
            COMMIT | COMMIT_PREPARED | ABORT | ABORT_PREPARED => transaction(record, version),
            _ => return Body::Other,
        },
        _ => return Body::Other,
    };
    event.map_or(Body::Unreadable, Body::Event)
}

// `XLOG_XACT_…`.
const COMMIT: u8 = 0x00;
const ABORT: u8 = 0x20;
const COMMIT_PREPARED: u8 = 0x30;
const ABORT_PREPARED: u8 = 0x40;
const HAS_INFO: u8 = 0x80;

// `XACT_XINFO_HAS_…`.
const DATABASE: u32 = 1;
const SUBTRANSACTIONS: u32 = 1 << 1;
const RELATIONS: u32 = 1 << 2;
const INVALIDATIONS: u32 = 1 << 3;
const TWO_PHASE: u32 = 1 << 4;
const DROPPED_STATISTICS: u32 = 1 << 8;

/// `xl_xact_commit` and `xl_xact_abort`, which differ in what an abort never has.
fn transaction(record: &Record<'_>, version: u8) -> Option<Event> {
    let mut body = Cursor::new(record.main()?);
    let time = time(body.i64()?)?;
    let extras = if record.header.info & HAS_INFO == 0 {
        0
    } else {
        body.u32()?
    };
    let has = |part: u32| extras & part != 0;
    if has(DATABASE) {
        body.skip(8)?;
    }
    if has(SUBTRANSACTIONS) {
        body.skip_items(4)?;
    }
    if has(RELATIONS) {
        body.skip_items(12)?;
    }
    if has(DROPPED_STATISTICS) {
        // An object's id has 64 bits since 18.
        body.skip_items(if version < 18 { 12 } else { 16 })?;
    }
    if has(INVALIDATIONS) {
        body.skip_items(16)?;
    }
    let kind = record.header.info & 0x70;
    // Another session ends a prepared transaction: the record's own xid is not the one.
    let xid = match kind {
        COMMIT_PREPARED | ABORT_PREPARED if has(TWO_PHASE) => body.u32()?,
        COMMIT_PREPARED | ABORT_PREPARED => return None,
        _ => record.header.xid,
    };
    let (lsn, end) = (record.lsn, record.end);
    Some(match kind {
        COMMIT | COMMIT_PREPARED => Event::Commit {
            lsn,
            end,
            xid,
            time,
        },
        _ => Event::Abort {
            lsn,
            end,
            xid,
            time,
        },
    })
}

/// `xl_restore_point`: a time and a name of 64 bytes, its end filled with zeros.
fn restore_point(record: &Record<'_>) -> Option<Event> {
    let mut body = Cursor::new(record.main()?);
    let time = time(body.i64()?)?;
    let name = body.rest().get(..64)?.split(|byte| *byte == 0).next()?;
    Some(Event::RestorePoint {
        lsn: record.lsn,
        end: record.end,
        name: String::from_utf8_lossy(name).into_owned(),
        time,
    })
}

/// `CheckPoint`. Between `fullPageWrites` and `time` 17 has put a field where padding was.
fn checkpoint(record: &Record<'_>) -> Option<Event> {
    let mut body = Cursor::new(record.main()?);
    let (redo, timeline) = (body.u64()?, body.u32()?);
    body.skip(64 - 12)?;
    Some(Event::Checkpoint {
        lsn: record.lsn,
        end: record.end,
        redo: Lsn::new(redo),
        timeline: TimelineId::new(timeline)?,
        time: DateTime::from_timestamp(body.i64()?, 0)?,
    })
}

/// `TimestampTz`: microseconds since 2000 began in UTC. `None` where no calendar reaches.
fn time(microseconds: i64) -> Option<DateTime<Utc>> {
    /// From 1970, in seconds.
    const YEAR_2000: i64 = 946_684_800;

    DateTime::from_timestamp(YEAR_2000, 0)?
        .checked_add_signed(TimeDelta::microseconds(microseconds))
}
