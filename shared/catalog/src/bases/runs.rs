//! Who takes a base of a cluster now, and how the last try ended: one row per cluster.
//!
//! Two bases at once would read the server twice for nothing, and one would take the other's
//! objects for remains. So a run holds a lease, as a claim does.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Double, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;

use crate::error::CatalogError;
use crate::ids::{BaseRun, ClusterId};
use crate::rows;

/// Whether a run may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It has the lease.
    Run(BaseRun),
    /// Another one has it.
    Held { by: String, until: DateTime<Utc> },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// In every repository.
    Complete,
    /// In one repository at least, not in all.
    Partial,
    Failed,
    /// No server is configured for the cluster.
    NoServer,
}

/// What the row says after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// In a row; 0 after a success.
    pub failures: u32,
}

/// The last run of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Who takes a base now.
    pub held_by: Option<String>,
    pub began_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub outcome: Option<RunOutcome>,
    pub error: Option<String>,
    pub failures: u32,
    pub failed_since: Option<DateTime<Utc>>,
    pub succeeded_at: Option<DateTime<Utc>>,
}

/// Takes the lease, if nobody holds it.
///
/// # Errors
/// Only the database's.
pub async fn begin(
    conn: &mut AsyncPgConnection,
    cluster: ClusterId,
    by: &str,
    lease: Duration,
) -> Result<Begun, CatalogError> {
    #[derive(QueryableByName)]
    struct Holder {
        #[diesel(sql_type = Text)]
        held_by: String,
        #[diesel(sql_type = Timestamptz)]
        lease_until: DateTime<Utc>,
    }
    loop {
        let taken = diesel::sql_query(
            "INSERT INTO base_runs AS r (cluster_id, held_by, lease_until) \
             VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3)) \
             ON CONFLICT (cluster_id) DO UPDATE SET run = r.run + 1, held_by = excluded.held_by, \
                lease_until = excluded.lease_until, began_at = clock_timestamp() \
              WHERE r.lease_until IS NULL OR r.lease_until < clock_timestamp() \
             RETURNING run AS id",
        )
        .bind::<BigInt, _>(cluster.0)
        .bind::<Text, _>(by)
        .bind::<Double, _>(rows::seconds(lease))
        .load::<rows::Id>(conn)
        .await?;
        if let Some(row) = taken.into_iter().next() {
            return Ok(Begun::Run(BaseRun(row.id)));
        }
        let holder = diesel::sql_query(
            "SELECT held_by, lease_until FROM base_runs \
              WHERE cluster_id = $1 AND lease_until IS NOT NULL",
        )
        .bind::<BigInt, _>(cluster.0)
        .load::<Holder>(conn)
        .await?;
        if let Some(holder) = holder.into_iter().next() {
            return Ok(Begun::Held {
                by: holder.held_by,
                until: holder.lease_until,
            });
        }
        // It ended between the two statements.
    }
}

/// Says that the run lives. False: another one began, and this one has to stop.
///
/// # Errors
/// Only the database's; whether the lease still holds is then unknown.
pub async fn renew(
    conn: &mut AsyncPgConnection,
    cluster: ClusterId,
    run: BaseRun,
    lease: Duration,
) -> Result<bool, CatalogError> {
    let renewed = diesel::sql_query(
        "UPDATE base_runs SET lease_until = clock_timestamp() + make_interval(secs => $3) \
          WHERE cluster_id = $1 AND run = $2 AND held_by IS NOT NULL",
    )
    .bind::<BigInt, _>(cluster.0)
    .bind::<BigInt, _>(run.0)
    .bind::<Double, _>(rows::seconds(lease))
    .execute(conn)
    .await?;
    Ok(renewed == 1)
}

/// Gives the lease back; `outcome` is `None` for a run that was told to stop, of which
/// nothing is said. `None` in return: another run began, and this one writes nothing.
///
/// # Errors
/// Only the database's.
pub async fn end(
    conn: &mut AsyncPgConnection,
    cluster: ClusterId,
    run: BaseRun,
    outcome: Option<(RunOutcome, Option<&str>)>,
) -> Result<Option<Ended>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        failures: i32,
    }
    let (word, error) = match outcome {
        Some((outcome, error)) => (Some(outcome.as_str()), error),
        None => (None, None),
    };
    let rows = diesel::sql_query(
        "UPDATE base_runs SET held_by = NULL, lease_until = NULL, \
            ended_at = CASE WHEN $3 IS NULL THEN ended_at ELSE clock_timestamp() END, \
            outcome = coalesce($3, outcome), \
            error = CASE WHEN $3 IS NULL THEN error ELSE $4 END, \
            failures = CASE WHEN $3 IS NULL THEN failures WHEN $3 = 'failed' THEN failures + 1 ELSE 0 END, \
            failed_since = CASE WHEN $3 IS NULL THEN failed_since \
                                WHEN $3 = 'failed' THEN coalesce(failed_since, clock_timestamp()) END, \
            succeeded_at = CASE WHEN $3 IN ('complete', 'partial') THEN clock_timestamp() ELSE succeeded_at END \
          WHERE cluster_id = $1 AND run = $2 AND held_by IS NOT NULL RETURNING failures",
    )
    .bind::<BigInt, _>(cluster.0)
    .bind::<BigInt, _>(run.0)
    .bind::<Nullable<Text>, _>(word)
    .bind::<Nullable<Text>, _>(error)
    .load::<Row>(conn)
    .await?;
    rows.into_iter()
        .next()
        .map(|row| {
            Ok(Ended {
                failures: rows::small("count", row.failures)?,
            })
        })
        .transpose()
}

/// The last run of a cluster that ever had one.
///
/// # Errors
/// The database's, and rows that cannot be read.
pub async fn last_run(
    conn: &mut AsyncPgConnection,
    cluster: ClusterId,
) -> Result<Option<RunRow>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Text>)]
        held_by: Option<String>,
        #[diesel(sql_type = Timestamptz)]
        began_at: DateTime<Utc>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        ended_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Text>)]
        outcome: Option<String>,
        #[diesel(sql_type = Nullable<Text>)]
        error: Option<String>,
        #[diesel(sql_type = Integer)]
        failures: i32,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        failed_since: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        succeeded_at: Option<DateTime<Utc>>,
    }
    diesel::sql_query(
        "SELECT CASE WHEN lease_until > clock_timestamp() THEN held_by END AS held_by, \
                began_at, ended_at, outcome, error, failures, failed_since, succeeded_at \
           FROM base_runs WHERE cluster_id = $1",
    )
    .bind::<BigInt, _>(cluster.0)
    .load::<Row>(conn)
    .await?
    .into_iter()
    .next()
    .map(|row| {
        Ok(RunRow {
            held_by: row.held_by,
            began_at: row.began_at,
            ended_at: row.ended_at,
            outcome: row.outcome.as_deref().map(RunOutcome::parse).transpose()?,
            error: row.error,
            failures: rows::small("count", row.failures)?,
            failed_since: row.failed_since,
            succeeded_at: row.succeeded_at,
        })
    })
    .transpose()
}

impl RunOutcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::NoServer => "no-server",
        }
    }

    fn parse(text: &str) -> Result<Self, CatalogError> {
        [Self::Complete, Self::Partial, Self::Failed, Self::NoServer]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or_else(|| rows::malformed("outcome of a run", text))
    }
}
