//! Writing down what was seen in the buckets. Every function may be repeated.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use walferry_proof::RepositoryName;
use walferry_wal::{Lsn, SegmentSize, SystemId, TimelineId};

use crate::clusters::unknown;
use crate::error::CatalogError;
use crate::ids::{BaseId, PrefixId};
use crate::rows;

/// A base backup as its `backup.json` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `20261103T193000Z`.
    pub label: String,
    pub system_id: SystemId,
    pub segment_size: SegmentSize,
    /// As `server_version_num` has it: 150018.
    pub server_version: u32,
    pub from_standby: bool,
    pub start_lsn: Lsn,
    pub start_timeline: TimelineId,
    pub stop_lsn: Lsn,
    pub stop_timeline: TimelineId,
    pub started_at: DateTime<Utc>,
    pub stopped_at: DateTime<Utc>,
    /// Of its tar archives, in bytes.
    pub size: u64,
    /// In each repository, in bytes.
    pub stored_size: u64,
    /// Besides the data directory.
    pub tablespaces: u32,
}

/// A person's word that retention leaves a base and its WAL alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// `None`: for ever.
    pub until: Option<DateTime<Utc>>,
}

/// Records a base that was taken or found: complete in these repositories, dropped from
/// those, for a reason. What is known of other repositories stays.
///
/// A copy that is complete does not become dropped again: the bucket has it.
///
/// # Errors
/// Only the database's.
pub async fn record(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    base: &Base,
    complete: &[RepositoryName],
    dropped: &[(RepositoryName, String)],
) -> Result<BaseId, CatalogError> {
    conn.transaction(async |conn| {
        let id = upsert(conn, prefix, base).await?;
        for repository in complete {
            set_copy(conn, id, repository, "complete", None).await?;
        }
        for (repository, reason) in dropped {
            set_copy(conn, id, repository, "dropped", Some(reason)).await?;
        }
        Ok(id)
    })
    .await
}

/// A repository that was dropped has the base now.
///
/// # Errors
/// `Unknown` when the catalog has no such base.
pub async fn copied(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    label: &str,
    repository: &RepositoryName,
) -> Result<(), CatalogError> {
    let id = find(conn, prefix, label).await?;
    set_copy(conn, id, repository, "complete", None).await
}

/// The base is in the repository no more; its row stays, as what is deleted stays known.
///
/// # Errors
/// `Unknown` when the catalog has no such base.
pub async fn removed(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    label: &str,
    repository: &RepositoryName,
    reason: &str,
) -> Result<(), CatalogError> {
    let id = find(conn, prefix, label).await?;
    set_copy(conn, id, repository, "removed", Some(reason)).await
}

/// Sets or clears what `walferry backups keep` says.
///
/// # Errors
/// `Unknown` when the catalog has no such base.
pub async fn keep(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    label: &str,
    keep: Option<Keep>,
) -> Result<(), CatalogError> {
    let changed = diesel::sql_query(
        "UPDATE bases SET keep = $3, keep_until = $4 WHERE prefix_id = $1 AND label = $2",
    )
    .bind::<BigInt, _>(prefix.0)
    .bind::<Text, _>(label)
    .bind::<Bool, _>(keep.is_some())
    .bind::<Nullable<Timestamptz>, _>(keep.and_then(|keep| keep.until))
    .execute(conn)
    .await?;
    match changed {
        0 => Err(unknown("base backup", label)),
        _ => Ok(()),
    }
}

async fn find(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    label: &str,
) -> Result<BaseId, CatalogError> {
    diesel::sql_query("SELECT id FROM bases WHERE prefix_id = $1 AND label = $2")
        .bind::<BigInt, _>(prefix.0)
        .bind::<Text, _>(label)
        .load::<rows::Id>(conn)
        .await?
        .into_iter()
        .next()
        .map(|row| BaseId(row.id))
        .ok_or_else(|| unknown("base backup", label))
}

async fn upsert(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    base: &Base,
) -> Result<BaseId, CatalogError> {
    let tablespaces = i32::try_from(base.tablespaces).unwrap_or(i32::MAX);
    let version = i32::try_from(base.server_version).unwrap_or(i32::MAX);
    // A row of the same label that says something else is wrong: the object is the truth.
    let row = diesel::sql_query(
        "INSERT INTO bases (prefix_id, label, system_id, segment_size, server_version, from_standby, \
                            start_lsn, start_timeline, stop_lsn, stop_timeline, started_at, stopped_at, \
                            size_bytes, stored_bytes, tablespaces) \
         VALUES ($1, $2, $3::numeric, $4, $5, $6, $7::pg_lsn, $8, $9::pg_lsn, $10, $11, $12, $13, $14, $15) \
         ON CONFLICT (prefix_id, label) DO UPDATE SET \
            system_id = excluded.system_id, segment_size = excluded.segment_size, \
            server_version = excluded.server_version, from_standby = excluded.from_standby, \
            start_lsn = excluded.start_lsn, start_timeline = excluded.start_timeline, \
            stop_lsn = excluded.stop_lsn, stop_timeline = excluded.stop_timeline, \
            started_at = excluded.started_at, stopped_at = excluded.stopped_at, \
            size_bytes = excluded.size_bytes, stored_bytes = excluded.stored_bytes, \
            tablespaces = excluded.tablespaces \
         RETURNING id",
    )
    .bind::<BigInt, _>(prefix.0)
    .bind::<Text, _>(&base.label)
    .bind::<Text, _>(base.system_id.to_string())
    .bind::<BigInt, _>(rows::bits(base.segment_size.bytes()))
    .bind::<Integer, _>(version)
    .bind::<Bool, _>(base.from_standby)
    .bind::<Text, _>(base.start_lsn.to_string())
    .bind::<BigInt, _>(i64::from(base.start_timeline.get()))
    .bind::<Text, _>(base.stop_lsn.to_string())
    .bind::<BigInt, _>(i64::from(base.stop_timeline.get()))
    .bind::<Timestamptz, _>(base.started_at)
    .bind::<Timestamptz, _>(base.stopped_at)
    .bind::<BigInt, _>(rows::bits(base.size))
    .bind::<BigInt, _>(rows::bits(base.stored_size))
    .bind::<Integer, _>(tablespaces)
    .get_result::<rows::Id>(conn)
    .await?;
    Ok(BaseId(row.id))
}

async fn set_copy(
    conn: &mut AsyncPgConnection,
    base: BaseId,
    repository: &RepositoryName,
    state: &str,
    reason: Option<&str>,
) -> Result<(), CatalogError> {
    diesel::sql_query(
        "INSERT INTO base_copies AS c (base_id, repository, state, reason) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (base_id, repository) DO UPDATE SET \
            since = CASE WHEN c.state = excluded.state THEN c.since ELSE clock_timestamp() END, \
            state = excluded.state, reason = excluded.reason \
          WHERE NOT (c.state = 'complete' AND excluded.state = 'dropped')",
    )
    .bind::<BigInt, _>(base.0)
    .bind::<Text, _>(repository.as_str())
    .bind::<Text, _>(state)
    .bind::<Nullable<Text>, _>(reason)
    .execute(conn)
    .await?;
    Ok(())
}
