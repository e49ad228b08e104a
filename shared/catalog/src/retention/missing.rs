//! A copy that the catalog has as verified and the bucket does not have.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use walferry_proof::RepositoryName;

use crate::error::CatalogError;
use crate::ids::FileId;

/// What became of a file that lost a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterLoss {
    /// The copy is due and will be made again from another repository or the local file.
    Due,
    /// No repository and no directory has the file any more, and it is young: a hole in
    /// the archive. The row stays, unfinished, for a person to see.
    Lost,
    /// The same, but older than `forget_before`: retention deleted it after the moment that
    /// this catalog was restored to. `finish_expiry` makes a tombstone of it.
    Forgotten,
    /// The copy is not verified (any more): nothing was changed.
    Untouched,
}

/// Takes back that a copy is verified, as its object was seen to be absent.
///
/// A file whose required copy is missing is no longer VERIFIED. Harmless when repeated.
pub async fn copy_missing(
    conn: &mut AsyncPgConnection,
    file: FileId,
    repository: &RepositoryName,
    forget_before: DateTime<Utc>,
) -> Result<AfterLoss, CatalogError> {
    #[derive(QueryableByName)]
    struct Left {
        #[diesel(sql_type = Bool)]
        somewhere: bool,
        #[diesel(sql_type = Bool)]
        old: bool,
    }
    conn.transaction(async |conn| {
        let locked = diesel::sql_query(
            "SELECT id FROM wal_files WHERE id = $1 AND status IN ('VERIFIED', 'PENDING', 'EXPIRING') FOR UPDATE",
        )
        .bind::<BigInt, _>(file.0)
        .execute(conn)
        .await?;
        let taken_back = diesel::sql_query(
            "UPDATE copies SET state = 'due', verified_at = NULL, stored_size = NULL, cause = 'missing', \
                    due_at = clock_timestamp(), due_since = clock_timestamp(), \
                    last_error = 'the object is not in the bucket' \
              WHERE file_id = $1 AND repository = $2 AND state = 'verified'",
        )
        .bind::<BigInt, _>(file.0)
        .bind::<Text, _>(repository.as_str())
        .execute(conn)
        .await?;
        if locked == 0 || taken_back == 0 {
            return Ok(AfterLoss::Untouched);
        }
        let left = diesel::sql_query(
            "SELECT EXISTS (SELECT 1 FROM copies c WHERE c.file_id = f.id AND c.state = 'verified') \
                 OR EXISTS (SELECT 1 FROM local_files l WHERE l.file_id = f.id \
                             AND l.deleted_at IS NULL AND l.quarantined_at IS NULL) AS somewhere, \
                    coalesce(greatest(f.mtime, f.verified_at) < $2, false) AS old \
               FROM wal_files f WHERE f.id = $1",
        )
        .bind::<BigInt, _>(file.0)
        .bind::<Timestamptz, _>(forget_before)
        .get_result::<Left>(conn)
        .await?;
        let (after, update) = match (left.somewhere, left.old) {
            (false, true) => (
                AfterLoss::Forgotten,
                "WITH gone AS (DELETE FROM copies WHERE file_id = $1) \
                 UPDATE wal_files SET status = 'EXPIRING', due_at = NULL WHERE id = $1",
            ),
            (somewhere, _) => (
                if somewhere { AfterLoss::Due } else { AfterLoss::Lost },
                "UPDATE wal_files f SET due_at = clock_timestamp(), status = CASE \
                    WHEN EXISTS (SELECT 1 FROM copies c WHERE c.file_id = f.id AND c.required \
                                    AND c.state = 'due') THEN 'PENDING' ELSE f.status END \
                  WHERE f.id = $1 AND f.status <> 'EXPIRING'",
            ),
        };
        diesel::sql_query(update)
            .bind::<BigInt, _>(file.0)
            .execute(conn)
            .await?;
        Ok(after)
    })
    .await
}
