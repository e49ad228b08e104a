//! What the protected server says about its own archiving, for `check`. Reads only.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::error::CatalogError;

/// Settings and counters of a server that is archived.
#[derive(Debug, Clone, QueryableByName)]
pub struct Protected {
    /// In decimal, as the catalog's prefixes have it.
    #[diesel(sql_type = Text)]
    pub system_id: String,
    #[diesel(sql_type = Bool)]
    pub in_recovery: bool,
    #[diesel(sql_type = Text)]
    pub archive_mode: String,
    /// Command, or library on a server that has one.
    #[diesel(sql_type = Text)]
    pub archiver: String,
    /// Seconds; 0 is no limit.
    #[diesel(sql_type = BigInt)]
    pub archive_timeout: i64,
    #[diesel(sql_type = BigInt)]
    pub segment_size: i64,
    /// The segment that is written to; `None` on a standby.
    #[diesel(sql_type = Nullable<Text>)]
    pub current_segment: Option<String>,
    /// Bytes written in it.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub current_offset: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    pub last_archived: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_archived_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    pub last_failed: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_failed_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    pub now: DateTime<Utc>,
}

/// Asks the server itself, over a connection made for it.
///
/// # Errors
/// When it does not answer, or the role may not read settings (`pg_monitor` may).
pub async fn ask(conn: &mut AsyncPgConnection) -> Result<Protected, CatalogError> {
    Ok(diesel::sql_query(
        "SELECT (SELECT system_identifier FROM pg_control_system())::numeric::text AS system_id, \
                pg_is_in_recovery() AS in_recovery, \
                current_setting('archive_mode') AS archive_mode, \
                coalesce(nullif(current_setting('archive_library', true), ''), \
                         current_setting('archive_command')) AS archiver, \
                (SELECT setting::bigint FROM pg_settings WHERE name = 'archive_timeout') AS archive_timeout, \
                (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size') AS segment_size, \
                CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_insert_lsn()) END::text AS current_segment, \
                CASE WHEN NOT pg_is_in_recovery() THEN \
                     (pg_walfile_name_offset(pg_current_wal_insert_lsn())).file_offset END::bigint AS current_offset, \
                a.last_archived_wal AS last_archived, a.last_archived_time AS last_archived_at, \
                a.last_failed_wal AS last_failed, a.last_failed_time AS last_failed_at, \
                clock_timestamp() AS now \
           FROM pg_stat_archiver a",
    )
    .get_result(conn)
    .await?)
}
