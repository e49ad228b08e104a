//! Files in a directory that cannot be archived as they are.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::error::CatalogError;
use crate::ids::{ClusterId, DirectoryId};
use crate::rows::{self, Keep as _};

#[derive(Debug, Clone)]
pub struct NewSuspect {
    pub name: String,
    /// A word of a bounded set.
    pub reason_code: String,
    pub reason: String,
    /// Not "not yet": a person must act.
    pub critical: bool,
}

#[derive(Debug, Clone)]
pub struct SuspectRow {
    pub cluster: String,
    pub directory: DirectoryId,
    pub directory_name: String,
    pub directory_path: String,
    pub name: String,
    pub reason_code: String,
    pub reason: String,
    pub critical: bool,
    pub first_seen: DateTime<Utc>,
    pub last_seen: DateTime<Utc>,
}

/// Records suspects; one that is known keeps the time it was first seen.
pub async fn report(
    conn: &mut AsyncPgConnection,
    directory: DirectoryId,
    suspects: &[NewSuspect],
) -> Result<(), CatalogError> {
    if suspects.is_empty() {
        return Ok(());
    }
    let column = |pick: fn(&NewSuspect) -> &str| suspects.iter().map(pick).collect::<Vec<_>>();
    diesel::sql_query(
        "INSERT INTO suspects AS s (directory_id, name, reason_code, reason, critical) \
         SELECT $1, i.name, i.code, i.reason, i.critical \
           FROM unnest($2::text[], $3::text[], $4::text[], $5::boolean[]) AS i (name, code, reason, critical) \
          ORDER BY i.name COLLATE \"C\" \
         ON CONFLICT (directory_id, name) DO UPDATE SET \
            reason_code = excluded.reason_code, reason = excluded.reason, \
            critical = excluded.critical, last_seen = clock_timestamp()",
    )
    .bind::<BigInt, _>(directory.0)
    .bind::<Array<Text>, _>(column(|suspect| &suspect.name))
    .bind::<Array<Text>, _>(column(|suspect| &suspect.reason_code))
    .bind::<Array<Text>, _>(column(|suspect| &suspect.reason))
    .bind::<Array<Bool>, _>(suspects.iter().map(|s| s.critical).collect::<Vec<_>>())
    .kept()
    .execute(conn)
    .await?;
    Ok(())
}

/// These names are suspect no more.
pub async fn clear(
    conn: &mut AsyncPgConnection,
    directory: DirectoryId,
    names: &[String],
) -> Result<(), CatalogError> {
    diesel::sql_query("DELETE FROM suspects WHERE directory_id = $1 AND name = ANY ($2)")
        .bind::<BigInt, _>(directory.0)
        .bind::<Array<Text>, _>(names)
        .kept()
        .execute(conn)
        .await?;
    Ok(())
}

/// After a whole scan: every other name of the directory is suspect no more.
///
/// A file that is quarantined in place stays suspect without being named: the scan sees
/// nothing wrong in it, only its content differs from what was archived.
pub async fn keep_only(
    conn: &mut AsyncPgConnection,
    directory: DirectoryId,
    names: &[String],
) -> Result<(), CatalogError> {
    diesel::sql_query(
        "DELETE FROM suspects s WHERE s.directory_id = $1 AND s.name <> ALL ($2) \
            AND NOT EXISTS (SELECT 1 FROM local_files l JOIN wal_files f ON f.id = l.file_id \
                             WHERE l.directory_id = $1 AND f.name = s.name AND l.deleted_at IS NULL \
                               AND l.quarantined_at IS NOT NULL)",
    )
    .bind::<BigInt, _>(directory.0)
    .bind::<Array<Text>, _>(names)
    .kept()
    .execute(conn)
    .await?;
    Ok(())
}

/// How many suspects a cluster has.
pub async fn count(conn: &mut AsyncPgConnection, cluster: ClusterId) -> Result<u64, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        suspects: i64,
    }
    let row: Row = diesel::sql_query(
        "SELECT count(*) AS suspects FROM suspects s JOIN directories d ON d.id = s.directory_id \
          WHERE d.cluster_id = $1",
    )
    .bind::<BigInt, _>(cluster.0)
    .kept()
    .get_result(conn)
    .await?;
    rows::count("count", row.suspects)
}

/// Suspects of one cluster or of all, by directory and name.
pub async fn list(
    conn: &mut AsyncPgConnection,
    cluster: Option<ClusterId>,
) -> Result<Vec<SuspectRow>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        cluster: String,
        #[diesel(sql_type = BigInt)]
        directory_id: i64,
        #[diesel(sql_type = Text)]
        directory_name: String,
        #[diesel(sql_type = Text)]
        directory_path: String,
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        reason_code: String,
        #[diesel(sql_type = Text)]
        reason: String,
        #[diesel(sql_type = Bool)]
        critical: bool,
        #[diesel(sql_type = Timestamptz)]
        first_seen: DateTime<Utc>,
        #[diesel(sql_type = Timestamptz)]
        last_seen: DateTime<Utc>,
    }
    let rows = diesel::sql_query(
        "SELECT c.name AS cluster, s.directory_id, d.name AS directory_name, d.path AS directory_path, \
                s.name::text AS name, s.reason_code, s.reason, s.critical, s.first_seen, s.last_seen \
           FROM suspects s JOIN directories d ON d.id = s.directory_id JOIN clusters c ON c.id = d.cluster_id \
          WHERE $1 IS NULL OR d.cluster_id = $1 ORDER BY c.name, d.name, s.name",
    )
    .bind::<Nullable<BigInt>, _>(cluster.map(|id| id.0))
    .kept()
    .load::<Row>(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SuspectRow {
            cluster: row.cluster,
            directory: DirectoryId(row.directory_id),
            directory_name: row.directory_name,
            directory_path: row.directory_path,
            name: row.name,
            reason_code: row.reason_code,
            reason: row.reason,
            critical: row.critical,
            first_seen: row.first_seen,
            last_seen: row.last_seen,
        })
        .collect())
}
