//! The repositories as the workers see them: breaker, last success, last failure.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use walferry_proof::RepositoryName;

use crate::error::CatalogError;
use crate::rows;

/// What a worker's breaker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// No worker has reported yet.
    Unknown,
    Closed,
    Open,
    HalfOpen,
}

/// One worker's report.
#[derive(Debug, Clone)]
pub struct Health {
    pub state: BreakerState,
    /// Why it is open: a word of a bounded set.
    pub cause: Option<String>,
    pub last_error: Option<String>,
    /// Whether a request succeeded since the last report, and whether one failed.
    pub succeeded: bool,
    pub failed: bool,
    /// Whether it knows: it has seen the repository fail, or come back. A report that is not
    /// sure replaces another worker's only when that one has said nothing for 30 s.
    pub sure: bool,
}

#[derive(Debug, Clone)]
pub struct RepositoryRow {
    pub name: RepositoryName,
    pub state: BreakerState,
    /// Since when it is in this state.
    pub since: Option<DateTime<Utc>>,
    pub cause: Option<String>,
    pub last_success_at: Option<DateTime<Utc>>,
    pub last_failure_at: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    pub reported_at: Option<DateTime<Utc>>,
}

/// Makes each repository known; copies refer to it.
pub async fn ensure_repositories(
    conn: &mut AsyncPgConnection,
    names: &[RepositoryName],
) -> Result<(), CatalogError> {
    diesel::sql_query(
        "INSERT INTO repositories (name) SELECT unnest($1) ON CONFLICT (name) DO NOTHING",
    )
    .bind::<Array<Text>, _>(texts(names))
    .execute(conn)
    .await?;
    Ok(())
}

/// Records what a worker saw. `since` moves only when the state changes: the row is one for
/// all workers, and one that has asked for nothing lately must not call a cloud well that
/// another is waiting for.
pub async fn report_health(
    conn: &mut AsyncPgConnection,
    repository: &RepositoryName,
    health: &Health,
) -> Result<(), CatalogError> {
    diesel::sql_query(
        "UPDATE repositories SET \
            breaker_since = CASE WHEN breaker_state = $2 THEN coalesce(breaker_since, clock_timestamp()) ELSE clock_timestamp() END, \
            breaker_state = $2, breaker_cause = $3, \
            last_error = coalesce($4, last_error), \
            last_success_at = CASE WHEN $5 THEN clock_timestamp() ELSE last_success_at END, \
            last_failure_at = CASE WHEN $6 THEN clock_timestamp() ELSE last_failure_at END, \
            reported_at = clock_timestamp() \
          WHERE name = $1 \
            AND ($7 OR breaker_state IN ($2, 'unknown') \
                 OR reported_at < clock_timestamp() - interval '30 s')",
    )
    .bind::<Text, _>(repository.as_str())
    .bind::<Text, _>(health.state.as_str())
    .bind::<Nullable<Text>, _>(health.cause.as_deref())
    .bind::<Nullable<Text>, _>(health.last_error.as_deref())
    .bind::<Bool, _>(health.succeeded)
    .bind::<Bool, _>(health.failed)
    .bind::<Bool, _>(health.sure)
    .execute(conn)
    .await?;
    Ok(())
}

/// Every repository ever configured, by name.
pub async fn list(conn: &mut AsyncPgConnection) -> Result<Vec<RepositoryRow>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        breaker_state: String,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        breaker_since: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Text>)]
        breaker_cause: Option<String>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        last_success_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        last_failure_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Text>)]
        last_error: Option<String>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        reported_at: Option<DateTime<Utc>>,
    }
    diesel::sql_query(
        "SELECT name, breaker_state, breaker_since, breaker_cause, last_success_at, \
                last_failure_at, last_error, reported_at FROM repositories ORDER BY name",
    )
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        Ok(RepositoryRow {
            name: rows::parse("repository name", &row.name)?,
            state: BreakerState::parse(&row.breaker_state)?,
            since: row.breaker_since,
            cause: row.breaker_cause,
            last_success_at: row.last_success_at,
            last_failure_at: row.last_failure_at,
            last_error: row.last_error,
            reported_at: row.reported_at,
        })
    })
    .collect()
}

/// A repository that is no longer configured: its missing copies are required no more, so
/// that files do not wait for it for ever. Verified copies stay known. Returns how many
/// files became VERIFIED by it.
///
/// # Errors
/// Only the database's.
pub async fn retire(
    conn: &mut AsyncPgConnection,
    repository: &RepositoryName,
) -> Result<u64, CatalogError> {
    // A file must keep one verified copy at least: content that is nowhere stays PENDING.
    let row = diesel::sql_query(
        "WITH dropped AS ( \
            DELETE FROM copies WHERE repository = $1 AND state = 'due' RETURNING file_id), \
         settled AS ( \
            UPDATE wal_files f SET parked = false, status = 'VERIFIED', verified_at = clock_timestamp() \
              FROM dropped d WHERE f.id = d.file_id AND f.status = 'PENDING' AND f.sha256 IS NOT NULL \
               AND EXISTS (SELECT 1 FROM copies c WHERE c.file_id = f.id AND c.state = 'verified') \
               AND NOT EXISTS (SELECT 1 FROM copies c WHERE c.file_id = f.id AND c.state = 'due' \
                                AND c.required AND c.repository <> $1) \
            RETURNING 1) \
         SELECT count(*) AS id FROM settled",
    )
    .bind::<Text, _>(repository.as_str())
    .get_result::<crate::rows::Id>(conn)
    .await?;
    rows::count("count", row.id)
}

pub(crate) fn texts(names: &[RepositoryName]) -> Vec<&str> {
    names.iter().map(RepositoryName::as_str).collect()
}

impl BreakerState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }

    fn parse(text: &str) -> Result<Self, CatalogError> {
        [Self::Unknown, Self::Closed, Self::Open, Self::HalfOpen]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| rows::malformed("breaker state", text))
    }
}
