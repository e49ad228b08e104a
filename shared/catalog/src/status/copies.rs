//! How many files and copies there are, by state.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use walferry_proof::RepositoryName;

use crate::error::CatalogError;
use crate::ids::ClusterId;
use crate::rows::{self, Keep as _};

/// Files by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub pending: u64,
    pub verified: u64,
    pub expiring: u64,
    /// Of all verified files, uncompressed and as stored in one repository.
    pub verified_bytes: u64,
    pub verified_stored_bytes: u64,
}

/// What one repository still lacks.
#[derive(Debug, Clone)]
pub struct RepositoryStatus {
    pub repository: RepositoryName,
    /// Copies it lacks.
    pub due: u64,
    /// Of these, uncompressed bytes of files whose size is known.
    pub due_bytes: u64,
    /// Since when it lacks the oldest of them.
    pub behind_since: Option<DateTime<Utc>>,
    /// When the next of them is tried.
    pub next_try_at: Option<DateTime<Utc>>,
    /// The most frequent cause and an error of it.
    pub cause: Option<String>,
    pub last_error: Option<String>,
    /// Copies that retention is deleting.
    pub expiring: u64,
}

/// Files of one cluster or of all. Reads every row once: for a person, not for a tick.
pub async fn counts(
    conn: &mut AsyncPgConnection,
    cluster: Option<ClusterId>,
) -> Result<Counts, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        status: String,
        #[diesel(sql_type = BigInt)]
        files: i64,
        #[diesel(sql_type = BigInt)]
        bytes: i64,
        #[diesel(sql_type = BigInt)]
        stored: i64,
    }
    let found = diesel::sql_query(
        "SELECT f.status, count(*) AS files, coalesce(sum(f.size_bytes), 0)::bigint AS bytes, \
                coalesce(sum(f.compressed_size), 0)::bigint AS stored \
           FROM wal_files f JOIN prefixes p ON p.id = f.prefix_id \
          WHERE $1 IS NULL OR p.cluster_id = $1 GROUP BY f.status",
    )
    .bind::<Nullable<BigInt>, _>(cluster.map(|id| id.0))
    .kept()
    .load::<Row>(conn)
    .await?;
    let mut counts = Counts::default();
    for row in found {
        let files = rows::count("count", row.files)?;
        match row.status.as_str() {
            "PENDING" => counts.pending = files,
            "VERIFIED" => {
                counts.verified = files;
                counts.verified_bytes = rows::count("size", row.bytes)?;
                counts.verified_stored_bytes = rows::count("size", row.stored)?;
            }
            "EXPIRING" => counts.expiring = files,
            other => return Err(rows::malformed("file status", other)),
        }
    }
    Ok(counts)
}

/// Every known repository, by name, and what it lacks of one cluster or of all.
pub async fn repositories(
    conn: &mut AsyncPgConnection,
    cluster: Option<ClusterId>,
) -> Result<Vec<RepositoryStatus>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = BigInt)]
        due: i64,
        #[diesel(sql_type = BigInt)]
        due_bytes: i64,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        behind_since: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        next_try_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Text>)]
        cause: Option<String>,
        #[diesel(sql_type = Nullable<Text>)]
        last_error: Option<String>,
        #[diesel(sql_type = BigInt)]
        expiring: i64,
    }
    // `OFFSET 0`: from what is due to its files, never from the archive to what is due of it.
    let found = diesel::sql_query(
        "SELECT r.name, coalesce(d.due, 0) AS due, coalesce(d.due_bytes, 0) AS due_bytes, \
                d.behind_since, d.next_try_at, d.cause, d.last_error, coalesce(e.expiring, 0) AS expiring \
           FROM repositories r \
           LEFT JOIN ( \
                SELECT c.repository, count(*) AS due, \
                       coalesce(sum(f.size_bytes), 0)::bigint AS due_bytes, \
                       min(c.due_since) AS behind_since, min(c.due_at) AS next_try_at, \
                       mode() WITHIN GROUP (ORDER BY c.cause) AS cause, \
                       mode() WITHIN GROUP (ORDER BY c.last_error) AS last_error \
                  FROM copies c CROSS JOIN LATERAL ( \
                       SELECT f.size_bytes, p.cluster_id FROM wal_files f JOIN prefixes p ON p.id = f.prefix_id \
                        WHERE f.id = c.file_id OFFSET 0) f \
                 WHERE c.state = 'due' AND ($1 IS NULL OR f.cluster_id = $1) GROUP BY c.repository) d \
                  ON d.repository = r.name \
           LEFT JOIN ( \
                SELECT c.repository, count(*) AS expiring \
                  FROM copies c CROSS JOIN LATERAL ( \
                       SELECT p.cluster_id FROM wal_files f JOIN prefixes p ON p.id = f.prefix_id \
                        WHERE f.id = c.file_id OFFSET 0) f \
                 WHERE c.state = 'expiring' AND ($1 IS NULL OR f.cluster_id = $1) GROUP BY c.repository) e \
                  ON e.repository = r.name \
          ORDER BY r.name",
    )
    .bind::<Nullable<BigInt>, _>(cluster.map(|id| id.0))
    .kept()
    .load::<Row>(conn)
    .await?;
    found
        .into_iter()
        .map(|row| {
            Ok(RepositoryStatus {
                repository: rows::parse("repository name", &row.name)?,
                due: rows::count("count", row.due)?,
                due_bytes: rows::count("size", row.due_bytes)?,
                behind_since: row.behind_since,
                next_try_at: row.next_try_at,
                cause: row.cause,
                last_error: row.last_error,
                expiring: rows::count("count", row.expiring)?,
            })
        })
        .collect()
}
