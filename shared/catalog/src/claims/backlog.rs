//! What is left to do, and when.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Double, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use walferry_proof::RepositoryName;

use super::clock;
use super::lease::{COPY_DUE, STILL_THERE};
use super::take::{CRASH_BACKOFF, CRASHES_BEFORE_ALONE, ClaimRequest};
use crate::error::CatalogError;
use crate::ids::ClusterId;
use crate::repositories::texts;
use crate::rows::{self, Keep as _};

/// Unfinished files of one cluster or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    pub files: u64,
    /// Of their local files.
    pub bytes: u64,
    /// How many of them a worker holds now.
    pub claimed: u64,
    /// When the oldest of them was handed over.
    pub oldest: Option<DateTime<Utc>>,
}

/// How long until something may be claimable again: a back-off ends, or a lease runs out.
/// `None` when nothing is unfinished for the repositories that are up.
pub async fn next_wakeup(
    conn: &mut AsyncPgConnection,
    request: &ClaimRequest<'_>,
) -> Result<Option<Duration>, CatalogError> {
    #[derive(QueryableByName)]
    struct Wait {
        #[diesel(sql_type = Nullable<Double>)]
        wait: Option<f64>,
    }
    // greatest(), least() and min() pass over nulls. Of the copies that a repository lacks
    // the first hundred to be due say enough: more than that are never leased at once.
    let backoff = CRASH_BACKOFF.as_secs();
    let due = clock::due(request.longest_delay);
    // As `take` sees it: the crash that this lease may yet be is counted.
    let lease_over = format!(
        "f.lease_until + CASE WHEN f.crashes + 1 >= {CRASHES_BEFORE_ALONE} \
                              THEN interval '{backoff} s' ELSE interval '0' END"
    );
    let row = diesel::sql_query(format!(
        "WITH scope AS MATERIALIZED ( \
            SELECT ARRAY(SELECT p.id FROM prefixes p WHERE $1 IS NULL OR p.cluster_id = $1) AS prefixes), \
         fresh AS ( \
            SELECT min(greatest({due}, {lease_over}, w.copy_due)) AS due \
              FROM wal_files f CROSS JOIN LATERAL ( \
                    SELECT count(*) AS due, \
                           min(c.due_at) FILTER (WHERE c.repository = ANY ($2)) AS copy_due \
                      FROM copies c WHERE c.file_id = f.id AND {COPY_DUE}) w \
             WHERE f.due_at IS NOT NULL AND NOT f.parked \
               AND f.prefix_id = ANY ((SELECT prefixes FROM scope)::bigint[]) \
               AND (w.due = 0 OR w.copy_due IS NOT NULL)), \
         missing AS ( \
            SELECT min(m.due) AS due FROM unnest($2::text[]) AS up (name) CROSS JOIN LATERAL ( \
                SELECT greatest(c.due_at, {due}, {lease_over}) AS due \
                  FROM copies c CROSS JOIN LATERAL ( \
                        SELECT f.due_at, f.lease_until, f.crashes FROM wal_files f \
                         WHERE f.id = c.file_id AND f.parked AND coalesce(f.due_at, 'infinity') < 'infinity' \
                           AND f.prefix_id = ANY ((SELECT prefixes FROM scope)::bigint[]) OFFSET 0) f \
                 WHERE c.repository = up.name AND c.state = 'due' AND c.parked \
                 ORDER BY c.due_at LIMIT 100) m) \
         SELECT extract(epoch FROM least((SELECT due FROM fresh), (SELECT due FROM missing)) \
                                   - statement_timestamp())::float8 AS wait"
    ))
    .bind::<Nullable<BigInt>, _>(request.cluster.map(|id| id.0))
    .bind::<Array<Text>, _>(texts(request.repositories_up))
    .kept()
    .get_result::<Wait>(conn)
    .await?;
    Ok(row
        .wait
        .map(|wait| Duration::try_from_secs_f64(wait).unwrap_or(Duration::ZERO)))
}

pub async fn backlog(
    conn: &mut AsyncPgConnection,
    cluster: Option<ClusterId>,
) -> Result<Backlog, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        files: i64,
        #[diesel(sql_type = BigInt)]
        bytes: i64,
        #[diesel(sql_type = BigInt)]
        claimed: i64,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        oldest: Option<DateTime<Utc>>,
    }
    // Each half has an index of its own. Without the halves there is none, and the whole
    // archive is read.
    let row = diesel::sql_query(format!(
        "WITH scope AS MATERIALIZED ( \
            SELECT ARRAY(SELECT p.id FROM prefixes p WHERE $1 IS NULL OR p.cluster_id = $1) AS prefixes), \
         unfinished AS ( \
            SELECT f.id, f.lease_until, f.registered_at, f.status FROM wal_files f \
             WHERE f.due_at IS NOT NULL AND NOT f.parked \
               AND f.prefix_id = ANY ((SELECT prefixes FROM scope)::bigint[]) \
            UNION ALL \
            SELECT f.id, f.lease_until, f.registered_at, f.status FROM wal_files f \
             WHERE f.due_at IS NOT NULL AND f.parked \
               AND f.prefix_id = ANY ((SELECT prefixes FROM scope)::bigint[])) \
         SELECT count(*) AS files, \
                coalesce(sum((SELECT max(l.size) FROM local_files l \
                               WHERE l.file_id = f.id AND {STILL_THERE})), 0)::bigint AS bytes, \
                count(*) FILTER (WHERE f.lease_until > statement_timestamp()) AS claimed, \
                min(f.registered_at) FILTER (WHERE f.status = 'PENDING') AS oldest \
           FROM unfinished f"
    ))
    .bind::<Nullable<BigInt>, _>(cluster.map(|id| id.0))
    .kept()
    .get_result::<Row>(conn)
    .await?;
    Ok(Backlog {
        files: rows::count("count", row.files)?,
        bytes: rows::count("size", row.bytes)?,
        claimed: rows::count("count", row.claimed)?,
        oldest: row.oldest,
    })
}

/// A repository came back: its missing copies wait no longer. Returns how many waited.
pub async fn make_due_now(
    conn: &mut AsyncPgConnection,
    repository: &RepositoryName,
) -> Result<u64, CatalogError> {
    due_now(conn, repository, i64::MAX).await
}

/// Whether a repository is back is to be found out: one of its missing copies waits no longer.
pub async fn make_one_due_now(
    conn: &mut AsyncPgConnection,
    repository: &RepositoryName,
) -> Result<u64, CatalogError> {
    due_now(conn, repository, 1).await
}

async fn due_now(
    conn: &mut AsyncPgConnection,
    repository: &RepositoryName,
    limit: i64,
) -> Result<u64, CatalogError> {
    // Rows are locked in one order, so that two workers that notice at once do not lock each
    // other out. `+ 0`: the order is made of what is due, not found by walking the archive; nor
    // is that walked to find them again, as it may be for a join.
    let changed = diesel::sql_query(
        "UPDATE copies SET due_at = clock_timestamp() \
          WHERE repository = $1 \
            AND file_id = ANY (ARRAY( \
                SELECT file_id FROM copies \
                 WHERE repository = $1 AND state = 'due' AND due_at > clock_timestamp() \
                 ORDER BY file_id + 0 LIMIT $2 FOR UPDATE))",
    )
    .bind::<Text, _>(repository.as_str())
    .bind::<BigInt, _>(limit)
    .kept()
    .execute(conn)
    .await?;
    Ok(changed as u64)
}
