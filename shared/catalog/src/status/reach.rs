//! How far the archive reaches without a hole: per timeline and repository, the last
//! segment up to which recovery can go.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use walferry_proof::RepositoryName;
use walferry_wal::{History, SegmentName, SegmentSize, TimelineId};

use crate::clusters::Prefix;
use crate::error::CatalogError;
use crate::labels;
use crate::rows;

/// One timeline's unbroken run in one repository.
#[derive(Debug, Clone)]
pub struct Reach {
    pub timeline: TimelineId,
    /// `None`: verified in every required repository.
    pub repository: Option<RepositoryName>,
    /// Where the run has to begin, and why there.
    pub from: SegmentName,
    pub since: Since,
    /// The last segment without a hole since `from`; `None` when `from` itself is missing.
    pub last: Option<SegmentName>,
    /// About when that segment was closed.
    pub last_mtime: Option<DateTime<Utc>>,
    pub segments: u64,
}

/// Why a run is counted from where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Since {
    /// The newest base backup known starts there: an older hole hinders nobody.
    Base,
    /// The timeline began there.
    Switch,
    /// The oldest segment known.
    Oldest,
}

/// A timeline that has segments, and where its unbroken run has to begin.
#[derive(Debug, Clone)]
pub(crate) struct Anchor {
    pub(crate) timeline: TimelineId,
    pub(crate) oldest: SegmentName,
    pub(crate) from: SegmentName,
    pub(crate) since: Since,
}

/// Every timeline of the prefix, oldest first; within one, `None` first, then by repository.
pub async fn reach(
    conn: &mut AsyncPgConnection,
    prefix: &Prefix,
) -> Result<Vec<Reach>, CatalogError> {
    let size = prefix.segment_size.unwrap_or(SegmentSize::DEFAULT);
    let mut reaches = Vec::new();
    for anchor in anchors(conn, prefix, size).await? {
        reaches.extend(of_timeline(conn, prefix, size, &anchor).await?);
    }
    Ok(reaches)
}

/// The unbroken run from the anchor on, in each repository.
pub(crate) async fn of_timeline(
    conn: &mut AsyncPgConnection,
    prefix: &Prefix,
    size: SegmentSize,
    anchor: &Anchor,
) -> Result<Vec<Reach>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        repository: String,
        #[diesel(sql_type = Nullable<Text>)]
        last: Option<String>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        last_mtime: Option<DateTime<Utc>>,
        #[diesel(sql_type = BigInt)]
        segments: i64,
    }
    // Gaps and islands: the k-th segment of an unbroken run that begins at number n has
    // number n + k - 1. The empty name stands for "every required repository".
    let found = diesel::sql_query(
        "WITH held AS ( \
            SELECT c.repository, f.name, f.mtime, f.log * $4 + f.seg AS number \
              FROM wal_files f JOIN copies c ON c.file_id = f.id AND c.state = 'verified' \
             WHERE f.prefix_id = $1 AND f.kind = 'segment' AND f.name >= $2 AND f.name < $3 \
            UNION ALL \
            SELECT '', f.name, f.mtime, f.log * $4 + f.seg FROM wal_files f \
             WHERE f.prefix_id = $1 AND f.kind = 'segment' AND f.name >= $2 AND f.name < $3 \
               AND f.status = 'VERIFIED'), \
         ranked AS ( \
            SELECT *, row_number() OVER (PARTITION BY repository ORDER BY number) AS rank FROM held), \
         run AS ( \
            SELECT * FROM ranked WHERE number = $5 + rank - 1) \
         SELECT r.name AS repository, max(run.name)::text AS last, \
                (array_agg(run.mtime ORDER BY run.number DESC))[1] AS last_mtime, \
                count(run.name) AS segments \
           FROM (SELECT '' AS name UNION ALL SELECT name FROM repositories) r \
           LEFT JOIN run ON run.repository = r.name GROUP BY r.name ORDER BY r.name COLLATE \"C\"",
    )
    .bind::<BigInt, _>(prefix.id.0)
    .bind::<Text, _>(anchor.from.to_string())
    .bind::<Text, _>(behind(anchor.timeline))
    .bind::<BigInt, _>(rows::bits(size.per_log()))
    .bind::<BigInt, _>(number(anchor.from, size)?)
    .load::<Row>(conn)
    .await?;
    found
        .into_iter()
        .map(|row| {
            Ok(Reach {
                timeline: anchor.timeline,
                repository: match row.repository.as_str() {
                    "" => None,
                    name => Some(rows::parse("repository name", name)?),
                },
                from: anchor.from,
                since: anchor.since,
                last: row
                    .last
                    .map(|name| rows::parse("segment name", &name))
                    .transpose()?,
                last_mtime: row.last_mtime,
                segments: rows::count("count", row.segments)?,
            })
        })
        .collect()
}

/// The timelines that have segments, oldest first.
pub(super) async fn anchors(
    conn: &mut AsyncPgConnection,
    prefix: &Prefix,
    size: SegmentSize,
) -> Result<Vec<Anchor>, CatalogError> {
    let oldest = oldest_segments(conn, prefix).await?;
    let labels = labels::labels(conn, prefix.id).await?;
    let switches = switches(conn, prefix, size).await?;
    Ok(oldest
        .iter()
        .map(|first| {
            let timeline = first.timeline();
            let base = labels
                .iter()
                .filter(|base| base.label.start_segment.timeline() == timeline)
                .map(|base| base.label.start_segment)
                .max();
            // Only if the parent was archived here too: whoever switched archiving on after
            // a promotion has no hole before its first segment.
            let switch = switches
                .iter()
                .find(|switch| switch.child == timeline)
                .filter(|switch| oldest.iter().any(|other| other.timeline() == switch.parent))
                .map(|switch| switch.first)
                .filter(|switch| switch <= first);
            let (from, since) = match (base, switch) {
                (Some(base), _) => (base, Since::Base),
                (None, Some(switch)) => (switch, Since::Switch),
                (None, None) => (*first, Since::Oldest),
            };
            Anchor {
                timeline,
                oldest: switch.unwrap_or(*first),
                from,
                since,
            }
        })
        .collect())
}

/// Where a timeline left its parent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Switch {
    pub(super) parent: TimelineId,
    pub(super) child: TimelineId,
    /// The child's first segment. The parent's of that number exists only as `.partial`.
    pub(super) first: SegmentName,
}

pub(super) async fn switches(
    conn: &mut AsyncPgConnection,
    prefix: &Prefix,
    size: SegmentSize,
) -> Result<Vec<Switch>, CatalogError> {
    Ok(labels::histories(conn, prefix.id)
        .await?
        .into_iter()
        .filter_map(|row| {
            let history = History::parse(row.timeline, &row.content).ok()?;
            let left = history.entries.last()?;
            Some(Switch {
                parent: left.parent,
                child: row.timeline,
                first: SegmentName::from_lsn(row.timeline, left.switch, size),
            })
        })
        .collect())
}

/// The oldest segment of each timeline, found by jumping from one to the next in the index.
async fn oldest_segments(
    conn: &mut AsyncPgConnection,
    prefix: &Prefix,
) -> Result<Vec<SegmentName>, CatalogError> {
    // `G` sorts behind every hexadecimal digit, so it skips the rest of a timeline.
    diesel::sql_query(
        "WITH RECURSIVE first (name) AS ( \
            (SELECT f.name FROM wal_files f \
              WHERE f.prefix_id = $1 AND f.kind = 'segment' AND f.status <> 'EXPIRING' \
              ORDER BY f.name LIMIT 1) \
            UNION ALL \
            SELECT (SELECT f.name FROM wal_files f \
                     WHERE f.prefix_id = $1 AND f.kind = 'segment' AND f.status <> 'EXPIRING' \
                       AND f.name > substr(first.name, 1, 8) || 'G' ORDER BY f.name LIMIT 1) \
              FROM first WHERE first.name IS NOT NULL) \
         SELECT name::text AS value FROM first WHERE name IS NOT NULL",
    )
    .bind::<BigInt, _>(prefix.id.0)
    .load::<rows::Value>(conn)
    .await?
    .into_iter()
    .map(|row| rows::parse("segment name", &row.value))
    .collect()
}

/// A text behind every name of a timeline and before every name of the next.
pub(super) fn behind(timeline: TimelineId) -> String {
    format!("{timeline}G")
}

pub(super) fn number(name: SegmentName, size: SegmentSize) -> Result<i64, CatalogError> {
    name.number(size)
        .map(rows::bits)
        .map_err(|_| rows::malformed("segment name", name))
}
