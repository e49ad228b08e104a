//! The server that the catalog lives on.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use walferry_wal::SystemId;

use crate::error::CatalogError;
use crate::rows;

/// Settings of the server that decide whether a commit survives a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durability {
    pub fsync: bool,
    pub full_page_writes: bool,
    /// Of this session: always `on`.
    pub synchronous_commit: String,
}

/// The system id of the catalog's own server: a catalog on the server that it protects goes
/// down together with it.
pub async fn system_id(conn: &mut AsyncPgConnection) -> Result<SystemId, CatalogError> {
    let row = diesel::sql_query("SELECT system_identifier::text AS value FROM pg_control_system()")
        .get_result::<rows::Value>(conn)
        .await?;
    rows::parse("system id", &row.value)
}

/// The catalog's clock.
pub async fn now(conn: &mut AsyncPgConnection) -> Result<DateTime<Utc>, CatalogError> {
    #[derive(QueryableByName)]
    struct Now {
        #[diesel(sql_type = Timestamptz)]
        now: DateTime<Utc>,
    }
    Ok(diesel::sql_query("SELECT clock_timestamp() AS now")
        .get_result::<Now>(conn)
        .await?
        .now)
}

/// Whether the catalog takes writes: a standby, a server in recovery and
/// `default_transaction_read_only` answer every question and keep nothing.
pub async fn takes_writes(conn: &mut AsyncPgConnection) -> Result<bool, CatalogError> {
    let row = diesel::sql_query("SELECT current_setting('transaction_read_only') AS value")
        .get_result::<rows::Value>(conn)
        .await?;
    Ok(row.value == "off")
}

pub async fn durability(conn: &mut AsyncPgConnection) -> Result<Durability, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        fsync: String,
        #[diesel(sql_type = Text)]
        full_page_writes: String,
        #[diesel(sql_type = Text)]
        synchronous_commit: String,
    }
    let row = diesel::sql_query(
        "SELECT current_setting('fsync') AS fsync, \
                current_setting('full_page_writes') AS full_page_writes, \
                current_setting('synchronous_commit') AS synchronous_commit",
    )
    .get_result::<Row>(conn)
    .await?;
    Ok(Durability {
        fsync: row.fsync == "on",
        full_page_writes: row.full_page_writes == "on",
        synchronous_commit: row.synchronous_commit,
    })
}
