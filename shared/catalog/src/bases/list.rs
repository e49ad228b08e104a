//! The bases of a prefix, with their copies.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use walferry_proof::RepositoryName;
use walferry_wal::SegmentSize;

use super::record::{Base, Keep};
use crate::error::CatalogError;
use crate::ids::{BaseId, PrefixId};
use crate::{labels, rows};

/// A base and where it lies.
#[derive(Debug, Clone)]
pub struct BaseRow {
    pub id: BaseId,
    pub base: Base,
    pub keep: Option<Keep>,
    /// By repository.
    pub copies: Vec<BaseCopy>,
}

/// A base in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseCopy {
    pub repository: RepositoryName,
    pub state: BaseCopyState,
    /// Why it is not complete there.
    pub reason: Option<String>,
    /// Since when it is in this state.
    pub since: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseCopyState {
    Complete,
    /// The cloud did not keep up, and gets the base later from another.
    Dropped,
    /// Retention or a person took it away.
    Removed,
}

/// Every base of a prefix that was ever recorded, newest first.
///
/// # Errors
/// The database's, and rows that cannot be read.
pub async fn list(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
) -> Result<Vec<BaseRow>, CatalogError> {
    let mut copies = copies(conn, prefix).await?;
    diesel::sql_query(
        "SELECT id, label::text AS label, system_id::text AS system_id, segment_size, server_version, \
                from_standby, start_lsn::text AS start_lsn, start_timeline, stop_lsn::text AS stop_lsn, \
                stop_timeline, started_at, stopped_at, size_bytes, stored_bytes, tablespaces, keep, keep_until \
           FROM bases WHERE prefix_id = $1 ORDER BY label DESC",
    )
    .bind::<BigInt, _>(prefix.0)
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        let copies = copies.remove(&row.id).unwrap_or_default();
        row.parse(copies)
    })
    .collect()
}

async fn copies(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
) -> Result<BTreeMap<i64, Vec<BaseCopy>>, CatalogError> {
    #[derive(QueryableByName)]
    struct CopyRow {
        #[diesel(sql_type = BigInt)]
        base_id: i64,
        #[diesel(sql_type = Text)]
        repository: String,
        #[diesel(sql_type = Text)]
        state: String,
        #[diesel(sql_type = Nullable<Text>)]
        reason: Option<String>,
        #[diesel(sql_type = Timestamptz)]
        since: DateTime<Utc>,
    }
    let found = diesel::sql_query(
        "SELECT c.base_id, c.repository, c.state, c.reason, c.since \
           FROM base_copies c JOIN bases b ON b.id = c.base_id \
          WHERE b.prefix_id = $1 ORDER BY c.base_id, c.repository",
    )
    .bind::<BigInt, _>(prefix.0)
    .load::<CopyRow>(conn)
    .await?;
    let mut copies: BTreeMap<i64, Vec<BaseCopy>> = BTreeMap::new();
    for row in found {
        copies.entry(row.base_id).or_default().push(BaseCopy {
            repository: rows::parse("repository name", &row.repository)?,
            state: BaseCopyState::parse(&row.state)?,
            reason: row.reason,
            since: row.since,
        });
    }
    Ok(copies)
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    label: String,
    #[diesel(sql_type = Text)]
    system_id: String,
    #[diesel(sql_type = BigInt)]
    segment_size: i64,
    #[diesel(sql_type = Integer)]
    server_version: i32,
    #[diesel(sql_type = Bool)]
    from_standby: bool,
    #[diesel(sql_type = Text)]
    start_lsn: String,
    #[diesel(sql_type = BigInt)]
    start_timeline: i64,
    #[diesel(sql_type = Text)]
    stop_lsn: String,
    #[diesel(sql_type = BigInt)]
    stop_timeline: i64,
    #[diesel(sql_type = Timestamptz)]
    started_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    stopped_at: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    size_bytes: i64,
    #[diesel(sql_type = BigInt)]
    stored_bytes: i64,
    #[diesel(sql_type = Integer)]
    tablespaces: i32,
    #[diesel(sql_type = Bool)]
    keep: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    keep_until: Option<DateTime<Utc>>,
}

impl Row {
    fn parse(self, copies: Vec<BaseCopy>) -> Result<BaseRow, CatalogError> {
        let segment_size = rows::count("segment size", self.segment_size)?;
        Ok(BaseRow {
            id: BaseId(self.id),
            base: Base {
                label: self.label,
                system_id: rows::parse("system id", &self.system_id)?,
                segment_size: SegmentSize::try_from(segment_size)
                    .map_err(|_| rows::malformed("segment size", segment_size))?,
                server_version: rows::small("server version", self.server_version)?,
                from_standby: self.from_standby,
                start_lsn: rows::parse("LSN", &self.start_lsn)?,
                start_timeline: labels::timeline(self.start_timeline)?,
                stop_lsn: rows::parse("LSN", &self.stop_lsn)?,
                stop_timeline: labels::timeline(self.stop_timeline)?,
                started_at: self.started_at,
                stopped_at: self.stopped_at,
                size: rows::count("size", self.size_bytes)?,
                stored_size: rows::count("size", self.stored_bytes)?,
                tablespaces: rows::small("count", self.tablespaces)?,
            },
            keep: self.keep.then_some(Keep {
                until: self.keep_until,
            }),
            copies,
        })
    }
}

impl BaseCopyState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Dropped => "dropped",
            Self::Removed => "removed",
        }
    }

    fn parse(text: &str) -> Result<Self, CatalogError> {
        [Self::Complete, Self::Dropped, Self::Removed]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| rows::malformed("state of a base", text))
    }
}
