//! What goes wrong, how fast it goes otherwise, and who works on it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Double, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use walferry_proof::RepositoryName;
use walferry_wal::WalFile;

use crate::claims::CRASHES_BEFORE_ALONE;
use crate::error::CatalogError;
use crate::ids::ClusterId;
use crate::rows;

/// Failures of one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `None`: the file itself could not be worked on.
    pub repository: Option<RepositoryName>,
    pub cause: String,
    pub files: u64,
    pub example: String,
}

/// What was verified within a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub files: u64,
    /// Uncompressed.
    pub bytes: u64,
    pub within: Duration,
    /// The last of them, at most a hundred, and how long ago the first of these was verified:
    /// what a drain that began a moment ago is measured by.
    pub last: (u64, Duration),
}

/// So many of the newest files tell how fast it goes now.
const LAST: u32 = 100;

/// Files that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TroubledFile {
    pub cluster: String,
    pub file: WalFile,
    pub trouble: Trouble,
    pub crashes: u32,
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Its claims ended in a crash three times or more.
    Crashes,
    /// Neither on disk nor in any repository: a hole in the archive.
    Vanished,
}

/// A worker that holds claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerClaims {
    pub worker: String,
    pub claims: u64,
    /// The first of its leases to end; in the past when it was not renewed.
    pub lease_until: DateTime<Utc>,
}

/// Failures of the last while, most frequent first.
pub async fn failures(
    conn: &mut AsyncPgConnection,
    cluster: Option<ClusterId>,
    within: Duration,
) -> Result<Vec<Failure>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Text>)]
        repository: Option<String>,
        #[diesel(sql_type = Text)]
        cause: String,
        #[diesel(sql_type = BigInt)]
        files: i64,
        #[diesel(sql_type = Text)]
        example: String,
    }
    diesel::sql_query(
        "WITH failed AS ( \
            SELECT c.repository, coalesce(c.cause, 'since-mended') AS cause, c.last_error, f.prefix_id \
              FROM copies c JOIN wal_files f ON f.id = c.file_id \
             WHERE c.failed_at > statement_timestamp() - make_interval(secs => $2) \
            UNION ALL \
            SELECT NULL, coalesce(f.last_cause, 'since-mended'), f.last_error, f.prefix_id FROM wal_files f \
             WHERE f.failed_at > statement_timestamp() - make_interval(secs => $2)) \
         SELECT x.repository, x.cause, count(*) AS files, coalesce(max(x.last_error), '') AS example \
           FROM failed x JOIN prefixes p ON p.id = x.prefix_id \
          WHERE $1 IS NULL OR p.cluster_id = $1 \
          GROUP BY x.repository, x.cause ORDER BY files DESC, x.repository, x.cause",
    )
    .bind::<Nullable<BigInt>, _>(cluster.map(|id| id.0))
    .bind::<Double, _>(rows::seconds(within))
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Failure {
            repository: row
                .repository
                .map(|name| rows::parse("repository name", &name))
                .transpose()?,
            cause: row.cause,
            files: rows::count("count", row.files)?,
            example: row.example,
        })
    })
    .collect()
}

/// How much became VERIFIED in the last while, for the ETA.
pub async fn rate(
    conn: &mut AsyncPgConnection,
    cluster: Option<ClusterId>,
    within: Duration,
) -> Result<Rate, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        files: i64,
        #[diesel(sql_type = BigInt)]
        bytes: i64,
        #[diesel(sql_type = BigInt)]
        last_files: i64,
        #[diesel(sql_type = Double)]
        last_seconds: f64,
    }
    let row = diesel::sql_query(format!(
        "WITH moved AS ( \
           SELECT f.verified_at, f.size_bytes, row_number() OVER (ORDER BY f.verified_at DESC) AS nth \
             FROM wal_files f JOIN prefixes p ON p.id = f.prefix_id \
            WHERE f.verified_at > statement_timestamp() - make_interval(secs => $2) \
              AND ($1 IS NULL OR p.cluster_id = $1)) \
         SELECT count(*) AS files, coalesce(sum(size_bytes), 0)::bigint AS bytes, \
                count(*) FILTER (WHERE nth <= {LAST}) AS last_files, \
                coalesce(extract(epoch FROM statement_timestamp() \
                  - min(verified_at) FILTER (WHERE nth <= {LAST})), 0)::float8 AS last_seconds \
           FROM moved",
    ))
    .bind::<Nullable<BigInt>, _>(cluster.map(|id| id.0))
    .bind::<Double, _>(rows::seconds(within))
    .get_result::<Row>(conn)
    .await?;
    Ok(Rate {
        files: rows::count("count", row.files)?,
        bytes: rows::count("size", row.bytes)?,
        within,
        last: (
            rows::count("count", row.last_files)?,
            Duration::from_secs_f64(row.last_seconds.max(0.0)),
        ),
    })
}

/// Files that a person should look at, in the order of WAL, at most 1,000.
pub async fn troubled(
    conn: &mut AsyncPgConnection,
    cluster: Option<ClusterId>,
) -> Result<Vec<TroubledFile>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        cluster: String,
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        trouble: String,
        #[diesel(sql_type = Integer)]
        crashes: i32,
        #[diesel(sql_type = Nullable<Text>)]
        last_error: Option<String>,
    }
    // A lease that ran out is a crash that nobody has counted yet.
    diesel::sql_query(format!(
        "WITH open AS ( \
            SELECT f.*, f.crashes + (f.lease_until <= statement_timestamp())::int AS crashed \
              FROM wal_files f WHERE f.due_at IS NOT NULL), \
         seen AS ( \
            SELECT o.prefix_id, o.name, o.last_error, coalesce(o.crashed, o.crashes) AS crashes, CASE \
                     WHEN o.status = 'PENDING' \
                      AND NOT EXISTS (SELECT 1 FROM local_files l WHERE l.file_id = o.id AND l.deleted_at IS NULL) \
                      AND NOT EXISTS (SELECT 1 FROM copies c WHERE c.file_id = o.id AND c.state = 'verified') \
                     THEN 'vanished' \
                     WHEN coalesce(o.crashed, o.crashes) >= {CRASHES_BEFORE_ALONE} THEN 'crashes' END AS trouble \
              FROM open o) \
         SELECT k.name AS cluster, s.name::text AS name, s.trouble, s.crashes, s.last_error \
           FROM seen s JOIN prefixes p ON p.id = s.prefix_id JOIN clusters k ON k.id = p.cluster_id \
          WHERE s.trouble IS NOT NULL AND ($1 IS NULL OR p.cluster_id = $1) \
          ORDER BY k.name, s.name LIMIT 1000"
    ))
    .bind::<Nullable<BigInt>, _>(cluster.map(|id| id.0))
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        Ok(TroubledFile {
            cluster: row.cluster,
            file: rows::parse("file name", &row.name)?,
            trouble: match row.trouble.as_str() {
                "vanished" => Trouble::Vanished,
                _ => Trouble::Crashes,
            },
            crashes: rows::small("count", row.crashes)?,
            last_error: row.last_error,
        })
    })
    .collect()
}

/// Who holds claims now, by name.
pub async fn workers(conn: &mut AsyncPgConnection) -> Result<Vec<WorkerClaims>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        worker: String,
        #[diesel(sql_type = BigInt)]
        claims: i64,
        #[diesel(sql_type = Timestamptz)]
        lease_until: DateTime<Utc>,
    }
    diesel::sql_query(
        "SELECT claimed_by AS worker, count(*) AS claims, min(lease_until) AS lease_until \
           FROM wal_files WHERE claimed_by IS NOT NULL GROUP BY claimed_by ORDER BY claimed_by",
    )
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        Ok(WorkerClaims {
            worker: row.worker,
            claims: rows::count("count", row.claims)?,
            lease_until: row.lease_until,
        })
    })
    .collect()
}
