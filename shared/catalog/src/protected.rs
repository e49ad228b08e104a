//! What the protected server says about its own archiving. Reads only.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use secrecy::SecretString;
use walferry_wal::SystemId;

use crate::clusters::Prefix;
use crate::connection::{Catalog, CatalogSettings};
use crate::error::CatalogError;
use crate::status::Reach;

/// A segment's long page header (`XLogLongPageHeaderData`, access/xlog_internal.h): a
/// position up to here means that nothing was written.
const EMPTY_SEGMENT: i64 = 40;

/// A server that is archived. Connects when it is first asked, and keeps that connection.
pub struct Server(Catalog);

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

/// What would be lost if the server died now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rpo {
    /// The time since the last contiguous verified segment was closed; zero when nothing was
    /// written since.
    Age(Duration),
    /// Everything: nothing of it is verified yet.
    NothingVerified,
    /// Unknown: the server is not the one that the prefix belongs to.
    OtherSystem(SystemId),
}

impl Server {
    /// Does not connect yet.
    ///
    /// # Errors
    /// When `url` is none.
    pub fn new(url: &SecretString, application: &str) -> Result<Self, CatalogError> {
        Ok(Self(Catalog::new(CatalogSettings {
            pool_size: 1,
            ..CatalogSettings::new(url.clone(), application)
        })?))
    }

    /// Asks the server itself.
    ///
    /// # Errors
    /// When it does not answer, or the role may not read settings (`pg_monitor` may).
    pub async fn ask(&self) -> Result<Protected, CatalogError> {
        ask(&mut *self.0.get_unchecked().await?).await
    }
}

impl Protected {
    /// Compares the server's position with what is verified: `reach` is that of `prefix`.
    #[must_use]
    pub fn rpo(&self, prefix: &Prefix, reach: &[Reach]) -> Rpo {
        if let Some(known) = prefix.system_id
            && known.to_string() != self.system_id
        {
            return Rpo::OtherSystem(known);
        }
        let last = reach
            .iter()
            .filter(|reach| reach.repository.is_none())
            .max_by_key(|reach| reach.timeline);
        let last_name = last.and_then(|last| last.last).map(|name| name.to_string());
        let idle = self
            .current_offset
            .is_some_and(|offset| offset <= EMPTY_SEGMENT)
            && last_name.is_some()
            && self.last_archived == last_name;
        match last.and_then(|last| last.last_mtime) {
            _ if idle => Rpo::Age(Duration::ZERO),
            Some(closed) => Rpo::Age((self.now - closed).to_std().unwrap_or(Duration::ZERO)),
            None => Rpo::NothingVerified,
        }
    }
}

async fn ask(conn: &mut AsyncPgConnection) -> Result<Protected, CatalogError> {
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
