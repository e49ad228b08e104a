//! What the verified WAL of a repository makes of a base: whether it is consistent there,
//! and how far it can be recovered.

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use walferry_proof::RepositoryName;
use walferry_wal::{History, Lsn, SegmentName, TimelineId};

use super::record::Base;
use crate::clusters::Prefix;
use crate::error::CatalogError;
use crate::labels;
use crate::status::{Anchor, Since, of_timeline};

/// A base's WAL in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseReach {
    pub repository: RepositoryName,
    /// The WAL from its start to its stop LSN is verified there. Without it the base
    /// restores nothing.
    pub usable: bool,
    /// The last segment of its timeline without a hole since its start.
    pub last: Option<SegmentName>,
    /// About when that segment was closed.
    pub last_mtime: Option<DateTime<Utc>>,
}

/// Every repository that was ever configured, by name.
///
/// # Errors
/// The database's, and rows that cannot be read.
pub async fn reach(
    conn: &mut AsyncPgConnection,
    prefix: &Prefix,
    base: &Base,
) -> Result<Vec<BaseReach>, CatalogError> {
    let mut found: Option<Vec<BaseReach>> = None;
    for leg in legs(conn, prefix, base).await? {
        let anchor = Anchor {
            timeline: leg.first.timeline(),
            oldest: leg.first,
            from: leg.first,
            since: Since::Base,
        };
        let runs = of_timeline(conn, prefix, base.segment_size, &anchor).await?;
        let here = runs.into_iter().filter_map(|run| {
            Some(BaseReach {
                repository: run.repository?,
                usable: run.last.is_some_and(|last| last >= leg.needed),
                last: run.last,
                last_mtime: run.last_mtime,
            })
        });
        found = Some(match found {
            None => here.collect(),
            Some(before) => here.map(|next| follow(&before, next)).collect(),
        });
    }
    Ok(found.unwrap_or_default())
}

/// Goes on from the leg before; where that has a hole, nothing behind it counts.
fn follow(before: &[BaseReach], next: BaseReach) -> BaseReach {
    let crossed = before
        .iter()
        .find(|one| one.repository == next.repository)
        .filter(|one| !one.usable || next.last.is_none());
    match crossed {
        Some(stuck) => BaseReach {
            usable: false,
            ..stuck.clone()
        },
        None => next,
    }
}

/// A stretch on one timeline: from `first` at least to `needed`.
struct Leg {
    first: SegmentName,
    needed: SegmentName,
}

/// One, but for a base from a standby that followed a promotion meanwhile.
async fn legs(
    conn: &mut AsyncPgConnection,
    prefix: &Prefix,
    base: &Base,
) -> Result<Vec<Leg>, CatalogError> {
    let name =
        |timeline: TimelineId, lsn: Lsn| SegmentName::from_lsn(timeline, lsn, base.segment_size);
    let before = |lsn: Lsn| Lsn::new(lsn.get().saturating_sub(1));
    // The segment of the byte before the stop is the last that is needed.
    let end = before(base.stop_lsn).max(base.start_lsn);
    if base.start_timeline == base.stop_timeline {
        return Ok(vec![Leg {
            first: name(base.start_timeline, base.start_lsn),
            needed: name(base.stop_timeline, end),
        }]);
    }
    let histories = labels::histories(conn, prefix.id).await?;
    let history = histories
        .iter()
        .find(|row| row.timeline == base.stop_timeline)
        .and_then(|row| History::parse(row.timeline, &row.content).ok());
    let Some(history) = history else {
        // Nobody knows the way: no repository can be called usable.
        return Ok(Vec::new());
    };
    let size = base.segment_size.bytes();
    let mut left = history
        .entries
        .iter()
        .skip_while(|entry| entry.parent != base.start_timeline)
        .peekable();
    if left.peek().is_none() {
        // It came from somewhere else.
        return Ok(Vec::new());
    }
    let mut legs = Vec::new();
    let mut from = base.start_lsn;
    for entry in left {
        let first = name(entry.parent, from);
        // PostgreSQL reads the segment in which a timeline was left under the next one's name.
        if first < name(entry.parent, entry.switch) {
            let whole = Lsn::new(entry.switch.get() / size * size);
            legs.push(Leg {
                first,
                needed: name(entry.parent, before(whole)),
            });
        }
        from = entry.switch;
    }
    legs.push(Leg {
        first: name(base.stop_timeline, from),
        needed: name(base.stop_timeline, end.max(from)),
    });
    Ok(legs)
}
