//! Retention runs: the newest of a cluster is the one that may delete.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};

use crate::error::CatalogError;
use crate::ids::ClusterId;
use crate::rows;

/// First key of the advisory lock that orders the beginnings of one cluster.
const LOCK: i32 = 0x7265_7461;

/// Fencing token of a run: a newer run of the same cluster ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(pub(super) i64);

/// Answer to `start_run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    Run(RunId),
    /// Another run of this cluster is alive.
    Busy {
        since: DateTime<Utc>,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunResult {
    /// Objects that were to go.
    pub planned: u64,
    /// Objects that went.
    pub deleted: u64,
    /// Objects that are due again.
    pub failed: u64,
    pub window_proven: bool,
    /// One line for a person.
    pub outcome: String,
}

#[derive(Debug, Clone)]
pub struct RunRow {
    pub started_at: DateTime<Utc>,
    /// `None`: it runs, or died.
    pub finished_at: Option<DateTime<Utc>>,
    pub planned: u64,
    pub deleted: u64,
    pub failed: u64,
    pub window_proven: bool,
    pub outcome: Option<String>,
}

/// Begins a run, unless another one of this cluster is alive: unfinished, and heard of
/// within `lease`. A run that was silent for longer is fenced by the new one.
pub async fn start_run(
    conn: &mut AsyncPgConnection,
    cluster: ClusterId,
    lease: Duration,
) -> Result<Started, CatalogError> {
    #[derive(QueryableByName)]
    struct Alive {
        #[diesel(sql_type = Timestamptz)]
        started_at: DateTime<Utc>,
    }
    conn.transaction(async |conn| {
        lock(conn, cluster.0).await?;
        let alive = diesel::sql_query(
            "SELECT started_at FROM retention_runs \
              WHERE cluster_id = $1 AND finished_at IS NULL \
                AND renewed_at > clock_timestamp() - make_interval(secs => $2) \
              ORDER BY id DESC LIMIT 1",
        )
        .bind::<BigInt, _>(cluster.0)
        .bind::<Double, _>(rows::seconds(lease))
        .load::<Alive>(conn)
        .await?;
        if let Some(alive) = alive.into_iter().next() {
            let since = alive.started_at;
            return Ok(Started::Busy { since });
        }
        let row =
            diesel::sql_query("INSERT INTO retention_runs (cluster_id) VALUES ($1) RETURNING id")
                .bind::<BigInt, _>(cluster.0)
                .get_result::<rows::Id>(conn)
                .await?;
        Ok(Started::Run(RunId(row.id)))
    })
    .await
}

/// Waits for everybody else who begins something in this cluster's retention, until the
/// transaction ends.
pub(super) async fn lock(conn: &mut AsyncPgConnection, cluster: i64) -> Result<(), CatalogError> {
    diesel::sql_query("SELECT pg_advisory_xact_lock($1, ($2 % 2147483647)::int)")
        .bind::<Integer, _>(LOCK)
        .bind::<BigInt, _>(cluster)
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends a run. Runs older than the thousandth of their cluster are forgotten.
pub async fn finish_run(
    conn: &mut AsyncPgConnection,
    run: RunId,
    result: &RunResult,
) -> Result<(), CatalogError> {
    diesel::sql_query(
        "WITH done AS ( \
            UPDATE retention_runs SET finished_at = clock_timestamp(), deleted = $2, failed = $3, \
                   outcome = $4, planned = $5, window_proven = $6 WHERE id = $1 RETURNING cluster_id) \
         DELETE FROM retention_runs r USING done d \
          WHERE r.cluster_id = d.cluster_id \
            AND r.id < (SELECT max(id) - 1000 FROM retention_runs n WHERE n.cluster_id = d.cluster_id)",
    )
    .bind::<BigInt, _>(run.0)
    .bind::<BigInt, _>(rows::bits(result.deleted))
    .bind::<BigInt, _>(rows::bits(result.failed))
    .bind::<Text, _>(&result.outcome)
    .bind::<BigInt, _>(rows::bits(result.planned))
    .bind::<Bool, _>(result.window_proven)
    .execute(conn)
    .await?;
    Ok(())
}

/// The newest run of a cluster.
pub async fn last_run(
    conn: &mut AsyncPgConnection,
    cluster: ClusterId,
) -> Result<Option<RunRow>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamptz)]
        started_at: DateTime<Utc>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        finished_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = BigInt)]
        planned: i64,
        #[diesel(sql_type = BigInt)]
        deleted: i64,
        #[diesel(sql_type = BigInt)]
        failed: i64,
        #[diesel(sql_type = Nullable<Bool>)]
        window_proven: Option<bool>,
        #[diesel(sql_type = Nullable<Text>)]
        outcome: Option<String>,
    }
    let rows = diesel::sql_query(
        "SELECT started_at, finished_at, planned, deleted, failed, window_proven, outcome \
           FROM retention_runs WHERE cluster_id = $1 ORDER BY id DESC LIMIT 1",
    )
    .bind::<BigInt, _>(cluster.0)
    .load::<Row>(conn)
    .await?;
    rows.into_iter()
        .next()
        .map(|row| {
            Ok(RunRow {
                started_at: row.started_at,
                finished_at: row.finished_at,
                planned: rows::count("planned", row.planned)?,
                deleted: rows::count("deleted", row.deleted)?,
                failed: rows::count("failed", row.failed)?,
                window_proven: row.window_proven.unwrap_or(false),
                outcome: row.outcome,
            })
        })
        .transpose()
}
