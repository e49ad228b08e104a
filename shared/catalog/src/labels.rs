//! Base backups known from their labels, and the histories of timelines.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use walferry_wal::{BackupFrom, Label, Lsn, SegmentName, TimelineId, WalFile};

use crate::error::CatalogError;
use crate::ids::{FileId, PrefixId};
use crate::rows;

/// A base backup whose label was archived.
#[derive(Debug, Clone)]
pub struct LabelRow {
    pub file_id: FileId,
    pub file: WalFile,
    pub label: Label,
    /// When the label file was written, by its mtime: about when the backup ended, also
    /// when the label's own times cannot be read.
    pub mtime: Option<DateTime<Utc>>,
    /// Whether the label itself is verified in every required repository.
    pub verified: bool,
}

#[derive(Debug, Clone)]
pub struct HistoryRow {
    pub timeline: TimelineId,
    pub content: Vec<u8>,
    pub seen_at: DateTime<Utc>,
}

/// Records what an archived label says. Harmless when repeated.
pub async fn insert_label(
    conn: &mut AsyncPgConnection,
    file: FileId,
    label: &Label,
) -> Result<(), CatalogError> {
    let from = match label.backup_from {
        BackupFrom::Primary => "primary",
        BackupFrom::Standby => "standby",
    };
    diesel::sql_query(
        "INSERT INTO labels (file_id, prefix_id, timeline, start_lsn, stop_lsn, start_segment, \
                             stop_segment, started_at, stopped_at, label, backup_from) \
         SELECT f.id, f.prefix_id, $2, $3::pg_lsn, $4::pg_lsn, $5, $6, $7, $8, $9, $10 \
           FROM wal_files f WHERE f.id = $1 \
         ON CONFLICT (file_id) DO NOTHING",
    )
    .bind::<BigInt, _>(file.0)
    .bind::<BigInt, _>(i64::from(label.timeline.get()))
    .bind::<Text, _>(label.start_lsn.to_string())
    .bind::<Text, _>(label.stop_lsn.to_string())
    .bind::<Text, _>(label.start_segment.to_string())
    .bind::<Text, _>(label.stop_segment.to_string())
    .bind::<Nullable<Timestamptz>, _>(label.start_time)
    .bind::<Nullable<Timestamptz>, _>(label.stop_time)
    .bind::<Text, _>(&label.label)
    .bind::<Text, _>(from)
    .execute(conn)
    .await?;
    Ok(())
}

/// Labels of a prefix, oldest start first.
pub async fn labels(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
) -> Result<Vec<LabelRow>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        file_id: i64,
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = BigInt)]
        timeline: i64,
        #[diesel(sql_type = Text)]
        start_lsn: String,
        #[diesel(sql_type = Text)]
        stop_lsn: String,
        #[diesel(sql_type = Text)]
        start_segment: String,
        #[diesel(sql_type = Text)]
        stop_segment: String,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        started_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        stopped_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Text)]
        label: String,
        #[diesel(sql_type = Text)]
        backup_from: String,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        mtime: Option<DateTime<Utc>>,
        #[diesel(sql_type = Bool)]
        verified: bool,
    }
    diesel::sql_query(
        "SELECT l.file_id, f.name::text AS name, l.timeline, l.start_lsn::text AS start_lsn, \
                l.stop_lsn::text AS stop_lsn, l.start_segment::text AS start_segment, \
                l.stop_segment::text AS stop_segment, l.started_at, l.stopped_at, l.label, \
                l.backup_from, f.mtime, f.status = 'VERIFIED' AS verified \
           FROM labels l JOIN wal_files f ON f.id = l.file_id \
          WHERE l.prefix_id = $1 ORDER BY l.start_lsn, l.start_segment",
    )
    .bind::<BigInt, _>(prefix.0)
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        Ok(LabelRow {
            file_id: FileId(row.file_id),
            file: rows::parse("file name", &row.name)?,
            label: Label {
                start_lsn: rows::parse::<Lsn>("LSN", &row.start_lsn)?,
                start_segment: rows::parse::<SegmentName>("segment name", &row.start_segment)?,
                stop_lsn: rows::parse::<Lsn>("LSN", &row.stop_lsn)?,
                stop_segment: rows::parse::<SegmentName>("segment name", &row.stop_segment)?,
                timeline: timeline(row.timeline)?,
                label: row.label,
                start_time: row.started_at,
                stop_time: row.stopped_at,
                backup_from: if row.backup_from == "standby" {
                    BackupFrom::Standby
                } else {
                    BackupFrom::Primary
                },
            },
            mtime: row.mtime,
            verified: row.verified,
        })
    })
    .collect()
}

/// Records a timeline's history. Harmless when repeated.
pub async fn insert_history(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    timeline: TimelineId,
    content: &[u8],
) -> Result<(), CatalogError> {
    diesel::sql_query(
        "INSERT INTO histories (prefix_id, timeline, content) VALUES ($1, $2, $3) \
         ON CONFLICT (prefix_id, timeline) DO NOTHING",
    )
    .bind::<BigInt, _>(prefix.0)
    .bind::<BigInt, _>(i64::from(timeline.get()))
    .bind::<Binary, _>(content)
    .execute(conn)
    .await?;
    Ok(())
}

/// Histories of a prefix, oldest timeline first.
pub async fn histories(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
) -> Result<Vec<HistoryRow>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        timeline: i64,
        #[diesel(sql_type = Binary)]
        content: Vec<u8>,
        #[diesel(sql_type = Timestamptz)]
        seen_at: DateTime<Utc>,
    }
    diesel::sql_query(
        "SELECT timeline, content, seen_at FROM histories WHERE prefix_id = $1 ORDER BY timeline",
    )
    .bind::<BigInt, _>(prefix.0)
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        Ok(HistoryRow {
            timeline: timeline(row.timeline)?,
            content: row.content,
            seen_at: row.seen_at,
        })
    })
    .collect()
}

pub(crate) fn timeline(number: i64) -> Result<TimelineId, CatalogError> {
    u32::try_from(number)
        .ok()
        .and_then(TimelineId::new)
        .ok_or_else(|| rows::malformed("timeline", number))
}
