//! What a person should know of: findings that outlive the log line.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Double, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;

use crate::error::CatalogError;
use crate::ids::ClusterId;
use crate::rows;

/// Events kept; older ones go when a new one is written.
const CAP: i64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Info,
    Warning,
    /// The archive may have a hole, or something must not go on.
    Critical,
}

#[derive(Debug, Clone)]
pub struct NewEvent {
    pub severity: Severity,
    /// A word of a bounded set, for `--json` and alerts.
    pub code: &'static str,
    pub cluster: Option<ClusterId>,
    pub message: String,
}

#[derive(Debug, Clone)]
pub struct Event {
    pub id: i64,
    pub at: DateTime<Utc>,
    pub severity: Severity,
    pub code: String,
    pub cluster: Option<ClusterId>,
    pub message: String,
}

pub async fn record(conn: &mut AsyncPgConnection, event: &NewEvent) -> Result<(), CatalogError> {
    diesel::sql_query(
        "WITH made AS (INSERT INTO events (severity, code, cluster_id, message) \
                       VALUES ($1, $2, $3, $4) RETURNING id) \
         DELETE FROM events WHERE id <= (SELECT id FROM made) - $5",
    )
    .bind::<Text, _>(event.severity.as_str())
    .bind::<Text, _>(event.code)
    .bind::<Nullable<BigInt>, _>(event.cluster.map(|id| id.0))
    .bind::<Text, _>(&event.message)
    .bind::<BigInt, _>(CAP)
    .execute(conn)
    .await?;
    Ok(())
}

/// Events of the last while, newest first, at most 1,000.
pub async fn recent(
    conn: &mut AsyncPgConnection,
    since: Duration,
) -> Result<Vec<Event>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Timestamptz)]
        at: DateTime<Utc>,
        #[diesel(sql_type = Text)]
        severity: String,
        #[diesel(sql_type = Text)]
        code: String,
        #[diesel(sql_type = Nullable<BigInt>)]
        cluster_id: Option<i64>,
        #[diesel(sql_type = Text)]
        message: String,
    }
    diesel::sql_query(
        "SELECT id, at, severity, code, cluster_id, message FROM events \
          WHERE at > statement_timestamp() - make_interval(secs => $1) ORDER BY id DESC LIMIT 1000",
    )
    .bind::<Double, _>(rows::seconds(since))
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Event {
            id: row.id,
            at: row.at,
            severity: Severity::parse(&row.severity)?,
            code: row.code,
            cluster: row.cluster_id.map(ClusterId),
            message: row.message,
        })
    })
    .collect()
}

impl Severity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    fn parse(text: &str) -> Result<Self, CatalogError> {
        [Self::Info, Self::Warning, Self::Critical]
            .into_iter()
            .find(|severity| severity.as_str() == text)
            .ok_or_else(|| rows::malformed("severity", text))
    }
}
