//! Expiry, step by step.

use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Text};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use walferry_proof::RepositoryName;

use super::runs::{self, RunId};
use crate::error::CatalogError;
use crate::ids::{FileId, PrefixId};
use crate::rows;

/// Whether a run may go on, for `WHERE`: no newer run of its cluster, no hold on it.
const MAY_GO_ON: &str = "NOT EXISTS (SELECT 1 FROM retention_runs n WHERE n.cluster_id = r.cluster_id AND n.id > r.id) \
     AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.released_at IS NULL \
                      AND (h.cluster_id IS NULL OR h.cluster_id = r.cluster_id))";

/// Answer to `begin_expiry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// These are EXPIRING now, and the copies named for them may be deleted. The others
    /// were claimed, handed over again or gone.
    Files(Vec<FileId>),
    /// Nothing was begun: a newer run took over, or a person holds all deletion.
    Stopped,
}

/// Commits the intention to delete these copies, in one short transaction.
///
/// Taken are only files that are VERIFIED, unclaimed and in no archive directory (or
/// EXPIRING already), and never history files, whatever the caller says.
///
/// When the commit's answer is lost the files may be EXPIRING all the same: nothing was
/// deleted yet, and the next run goes on from there.
pub async fn begin_expiry(
    conn: &mut AsyncPgConnection,
    run: RunId,
    copies: &[(FileId, RepositoryName)],
) -> Result<Begun, CatalogError> {
    conn.transaction(async |conn| {
        // Objects go right after this commit. A crash of the catalog's server must not
        // bring back a row that says VERIFIED, whatever a pooler made of the session.
        diesel::sql_query("SET LOCAL synchronous_commit = on")
            .execute(conn)
            .await?;
        // Two runs of a cluster begin one after the other, so that the older one sees the
        // newer one's row and stops.
        let cluster = diesel::sql_query(
            "UPDATE retention_runs SET renewed_at = clock_timestamp() WHERE id = $1 \
             RETURNING cluster_id AS id",
        )
        .bind::<BigInt, _>(run.0)
        .get_result::<rows::Id>(conn)
        .await?;
        runs::lock(conn, cluster.id).await?;
        if !may_go_on(conn, run).await? {
            return Ok(Begun::Stopped);
        }
        let begun = diesel::sql_query(
            "WITH input AS ( \
                SELECT * FROM unnest($1::bigint[], $2::text[]) AS i (file_id, repository)), \
             locked AS ( \
                SELECT f.id FROM wal_files f \
                 WHERE f.id IN (SELECT file_id FROM input) AND f.kind <> 'history' \
                   AND f.claimed_by IS NULL \
                   AND (f.status = 'EXPIRING' OR (f.status = 'VERIFIED' \
                        AND NOT EXISTS (SELECT 1 FROM local_files l \
                                         WHERE l.file_id = f.id AND l.deleted_at IS NULL) \
                        AND (f.due_at IS NULL \
                             OR EXISTS (SELECT 1 FROM copies c \
                                         WHERE c.file_id = f.id AND c.state = 'due')))) \
                 ORDER BY f.prefix_id, f.name FOR UPDATE), \
             files AS ( \
                UPDATE wal_files f SET status = 'EXPIRING', due_at = NULL \
                  FROM locked WHERE f.id = locked.id RETURNING f.id), \
             begun AS ( \
                UPDATE copies c SET state = 'expiring', due_at = clock_timestamp() \
                  FROM input i JOIN files f ON f.id = i.file_id \
                 WHERE c.file_id = i.file_id AND c.repository = i.repository) \
             SELECT id FROM files ORDER BY id",
        )
        .bind::<Array<BigInt>, _>(copies.iter().map(|(file, _)| file.0).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(
            copies
                .iter()
                .map(|(_, repository)| repository.as_str())
                .collect::<Vec<_>>(),
        )
        .load::<rows::Id>(conn)
        .await?;
        Ok(Begun::Files(
            begun.into_iter().map(|row| FileId(row.id)).collect(),
        ))
    })
    .await
}

/// Answer to `may_delete`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayDelete {
    Yes,
    /// This copy's end was not begun, or it is over: nothing is to be deleted.
    NotThis,
    /// A newer run took over, or a person holds all deletion.
    Stop,
}

/// Asked right before each object is deleted: the run was not taken over, nobody holds
/// deletion, and this very copy is still the one whose end was begun.
pub async fn may_delete(
    conn: &mut AsyncPgConnection,
    run: RunId,
    file: FileId,
    repository: &RepositoryName,
) -> Result<MayDelete, CatalogError> {
    if !may_go_on(conn, run).await? {
        return Ok(MayDelete::Stop);
    }
    let begun = diesel::sql_query(
        "SELECT EXISTS (SELECT 1 FROM copies c JOIN wal_files f ON f.id = c.file_id \
                         WHERE c.file_id = $1 AND c.repository = $2 AND c.state = 'expiring' \
                           AND f.status = 'EXPIRING') AS yes",
    )
    .bind::<BigInt, _>(file.0)
    .bind::<Text, _>(repository.as_str())
    .get_result::<Answer>(conn)
    .await?;
    Ok(if begun.yes {
        MayDelete::Yes
    } else {
        MayDelete::NotThis
    })
}

/// Records that every version of the object is gone. Harmless when repeated.
///
/// A crash right before this call leaves a copy that is deleted a second time.
pub async fn copy_deleted(
    conn: &mut AsyncPgConnection,
    file: FileId,
    repository: &RepositoryName,
) -> Result<(), CatalogError> {
    diesel::sql_query(
        "DELETE FROM copies WHERE file_id = $1 AND repository = $2 AND state = 'expiring'",
    )
    .bind::<BigInt, _>(file.0)
    .bind::<Text, _>(repository.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// Records why an object is still there, or may be; it stays due for deletion.
pub async fn copy_not_deleted(
    conn: &mut AsyncPgConnection,
    file: FileId,
    repository: &RepositoryName,
    error: &str,
    cause: &str,
) -> Result<(), CatalogError> {
    diesel::sql_query(
        "UPDATE copies SET attempts = attempts + 1, last_error = $3, cause = $4 \
          WHERE file_id = $1 AND repository = $2 AND state = 'expiring'",
    )
    .bind::<BigInt, _>(file.0)
    .bind::<Text, _>(repository.as_str())
    .bind::<Text, _>(error)
    .bind::<Text, _>(cause)
    .execute(conn)
    .await?;
    Ok(())
}

/// Replaces every EXPIRING row of the prefix that has no copy left by a tombstone; returns
/// how many. One statement: a crash leaves the row or the tombstone, never neither.
pub async fn finish_expiry(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    reason: &str,
) -> Result<u64, CatalogError> {
    let finished = diesel::sql_query(
        "WITH gone AS ( \
            DELETE FROM wal_files f \
             WHERE f.prefix_id = $1 AND f.status = 'EXPIRING' \
               AND NOT EXISTS (SELECT 1 FROM copies c WHERE c.file_id = f.id) \
            RETURNING f.prefix_id, f.name, f.sha256, f.size_bytes, f.verified_at) \
         INSERT INTO tombstones (prefix_id, name, sha256, size_bytes, archived_at, reason) \
         SELECT prefix_id, name, sha256, coalesce(size_bytes, 0), verified_at, $2 FROM gone",
    )
    .bind::<BigInt, _>(prefix.0)
    .bind::<Text, _>(reason)
    .execute(conn)
    .await?;
    Ok(finished as u64)
}

/// Whether the run may delete: no newer one took over, and nobody holds all deletion.
///
/// # Errors
/// Only the database's.
pub async fn may_go_on(conn: &mut AsyncPgConnection, run: RunId) -> Result<bool, CatalogError> {
    let row = diesel::sql_query(format!(
        "SELECT EXISTS (SELECT 1 FROM retention_runs r WHERE r.id = $1 AND {MAY_GO_ON}) AS yes"
    ))
    .bind::<BigInt, _>(run.0)
    .get_result::<Answer>(conn)
    .await?;
    Ok(row.yes)
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}
