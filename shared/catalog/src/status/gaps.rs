//! Holes: segments that were never handed over, and those not verified yet.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use walferry_wal::{SegmentName, SegmentSize, TimelineId};

use super::reach::{Anchor, anchors, behind, number, switches};
use crate::clusters::Prefix;
use crate::error::CatalogError;
use crate::rows;

/// A run of segments that recovery would miss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub timeline: TimelineId,
    pub first: SegmentName,
    pub last: SegmentName,
    pub segments: u64,
    pub kind: GapKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapKind {
    /// The catalog has no such file, though it has later ones.
    NeverSeen,
    /// Handed over, not yet verified in every required repository.
    NotVerified,
}

/// Holes of a prefix from its oldest segment on, in the order of WAL.
///
/// A timeline's head and its end are checked against the histories: a failed primary's last
/// segments that nobody handed over are a hole too.
pub async fn gaps(conn: &mut AsyncPgConnection, prefix: &Prefix) -> Result<Vec<Gap>, CatalogError> {
    let size = prefix.segment_size.unwrap_or(SegmentSize::DEFAULT);
    let switches = switches(conn, prefix, size).await?;
    let mut gaps = Vec::new();
    for anchor in anchors(conn, prefix, size).await? {
        let (mut holes, newest) = never_seen(conn, prefix, size, &anchor).await?;
        // The oldest child decides: a timeline that was left there has nothing later.
        let end = switches
            .iter()
            .filter(|switch| switch.parent == anchor.timeline)
            .map(|switch| number(switch.first, size))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .min();
        if let (Some(end), Some(newest)) = (end, newest)
            && newest + 1 < end
        {
            holes.push((newest + 1, end - 1));
        }
        for (first, last) in holes {
            gaps.push(gap(anchor.timeline, first, last, GapKind::NeverSeen, size)?);
        }
    }
    gaps.extend(unfinished(conn, prefix, size).await?);
    gaps.sort_by_key(|gap| (gap.first, gap.kind));
    Ok(gaps)
}

/// Holes between the segments of a timeline, as numbers, and its newest segment's number.
async fn never_seen(
    conn: &mut AsyncPgConnection,
    prefix: &Prefix,
    size: SegmentSize,
    anchor: &Anchor,
) -> Result<(Vec<(i64, i64)>, Option<i64>), CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        before: i64,
        #[diesel(sql_type = BigInt)]
        number: i64,
        #[diesel(sql_type = diesel::sql_types::Bool)]
        newest: bool,
    }
    let found = diesel::sql_query(
        "WITH held AS ( \
            SELECT f.log * $4 + f.seg AS number FROM wal_files f \
             WHERE f.prefix_id = $1 AND f.kind = 'segment' AND f.status <> 'EXPIRING' \
               AND f.name >= $2 AND f.name < $3), \
         steps AS ( \
            SELECT number, lag(number, 1, $5 - 1) OVER (ORDER BY number) AS before, \
                   number = max(number) OVER () AS newest FROM held) \
         SELECT before, number, newest FROM steps WHERE number > before + 1 OR newest ORDER BY number",
    )
    .bind::<BigInt, _>(prefix.id.0)
    .bind::<Text, _>(anchor.oldest.to_string())
    .bind::<Text, _>(behind(anchor.timeline))
    .bind::<BigInt, _>(rows::bits(size.per_log()))
    .bind::<BigInt, _>(number(anchor.oldest, size)?)
    .load::<Row>(conn)
    .await?;
    let newest = found.iter().find(|row| row.newest).map(|row| row.number);
    let holes = found
        .into_iter()
        .filter(|row| row.number > row.before + 1)
        .map(|row| (row.before + 1, row.number - 1))
        .collect();
    Ok((holes, newest))
}

/// Segments that are known but not verified, neighbours joined.
async fn unfinished(
    conn: &mut AsyncPgConnection,
    prefix: &Prefix,
    size: SegmentSize,
) -> Result<Vec<Gap>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        first: String,
        #[diesel(sql_type = BigInt)]
        low: i64,
        #[diesel(sql_type = BigInt)]
        high: i64,
    }
    diesel::sql_query(
        "WITH open AS ( \
            SELECT f.name, f.timeline, f.log * $2 + f.seg AS number FROM wal_files f \
             WHERE f.prefix_id = $1 AND f.kind = 'segment' AND f.status = 'PENDING'), \
         islands AS ( \
            SELECT *, number - row_number() OVER (PARTITION BY timeline ORDER BY number) AS island \
              FROM open) \
         SELECT min(name)::text AS first, min(number) AS low, max(number) AS high \
           FROM islands GROUP BY timeline, island",
    )
    .bind::<BigInt, _>(prefix.id.0)
    .bind::<BigInt, _>(rows::bits(size.per_log()))
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        let first: SegmentName = rows::parse("segment name", &row.first)?;
        gap(
            first.timeline(),
            row.low,
            row.high,
            GapKind::NotVerified,
            size,
        )
    })
    .collect()
}

fn gap(
    timeline: TimelineId,
    first: i64,
    last: i64,
    kind: GapKind,
    size: SegmentSize,
) -> Result<Gap, CatalogError> {
    let name = |number: i64| {
        SegmentName::from_number(timeline, rows::count("segment number", number)?, size)
            .ok_or_else(|| rows::malformed("segment number", number))
    };
    Ok(Gap {
        timeline,
        first: name(first)?,
        last: name(last)?,
        segments: rows::count("count", last - first + 1)?,
        kind,
    })
}
