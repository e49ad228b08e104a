//! What `pg_waldump` prints, as far as a record is an event.

use chrono::{DateTime, NaiveDateTime, Utc};
use walferry_wal::Lsn;
use walferry_wal::records::Event;

/// One record as it was printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) lsn: Lsn,
    pub(crate) length: u64,
    pub(crate) what: What,
}

/// What both sides say of an event; the times of restore points and checkpoints are not printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Commit(u32, DateTime<Utc>),
    Abort(u32, DateTime<Utc>),
    RestorePoint(String),
    Checkpoint(Lsn, u32),
    Switch,
    Other,
}

impl What {
    pub(crate) fn of(event: &Event) -> Self {
        match event {
            Event::Commit { xid, time, .. } => Self::Commit(*xid, *time),
            Event::Abort { xid, time, .. } => Self::Abort(*xid, *time),
            Event::RestorePoint { name, .. } => Self::RestorePoint(name.clone()),
            Event::Checkpoint { redo, timeline, .. } => Self::Checkpoint(*redo, timeline.get()),
        }
    }

    pub(crate) fn is_event(&self) -> bool {
        !matches!(self, Self::Switch | Self::Other)
    }
}

/// Every record, in order.
pub(crate) fn printed(text: &str) -> Vec<Printed> {
    text.lines()
        .filter(|line| line.starts_with("rmgr: "))
        .map(|line| record(line).unwrap_or_else(|| panic!("not understood: {line}")))
        .collect()
}

/// `rmgr: Transaction len (rec/tot): 34/ 34, tx: 735, lsn: 0/01511B90, prev 0/01511B58, desc:
/// COMMIT 2025-11-03 12:00:00.123456 UTC; …`
fn record(line: &str) -> Option<Printed> {
    let after = |name: &str| Some(line.split_once(name)?.1.trim_start());
    let manager = after("rmgr: ")?.split(' ').next()?;
    let total = after("len (rec/tot):")?.split_once('/')?.1.trim_start();
    let length = total.split_once(',')?.0.parse().ok()?;
    let lsn = after("lsn: ")?.split_once(',')?.0.parse().ok()?;
    let xid = after("tx: ")?.split_once(',')?.0.parse().ok()?;
    let (kind, rest) = match after("desc: ")?.split_once(' ') {
        Some((kind, rest)) => (kind, rest.trim()),
        None => (after("desc: ")?, ""),
    };
    let what = match (manager, kind) {
        ("Transaction", "COMMIT") => What::Commit(xid, time(rest)?),
        ("Transaction", "ABORT") => What::Abort(xid, time(rest)?),
        ("Transaction", "COMMIT_PREPARED" | "ABORT_PREPARED") => {
            let (xid, rest) = rest.split_once(": ")?;
            let (xid, time) = (xid.parse().ok()?, time(rest)?);
            if kind == "COMMIT_PREPARED" {
                What::Commit(xid, time)
            } else {
                What::Abort(xid, time)
            }
        }
        ("XLOG", "RESTORE_POINT") => What::RestorePoint(rest.to_owned()),
        ("XLOG", "CHECKPOINT_ONLINE" | "CHECKPOINT_SHUTDOWN") => {
            let value = |name: &str| rest.split_once(name)?.1.split(';').next();
            What::Checkpoint(
                value("redo ")?.parse().ok()?,
                value("; tli ")?.parse().ok()?,
            )
        }
        ("XLOG", "SWITCH") => What::Switch,
        _ => What::Other,
    };
    Some(Printed { lsn, length, what })
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    let time = text.split_once(" UTC")?.0;
    let time = NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(time.and_utc())
}
