//! A verified copy that turned out to be none.

use diesel::sql_types::{BigInt, Integer, Text};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use walferry_proof::RepositoryName;

use super::proof::LockedFile;
use super::quarantine::critical;
use crate::error::CatalogError;
use crate::ids::ClaimToken;

/// The copy in `repository` was read and is missing or damaged: it is due again, a file that
/// needs it is VERIFIED no more, and a person is told. The claim stays held.
///
/// # Errors
/// `LostClaim`: nothing was written.
pub async fn withdraw(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    repository: &RepositoryName,
    cause: &str,
    reason: &str,
) -> Result<(), CatalogError> {
    conn.transaction(async |conn| {
        let file = LockedFile::lock(conn, claim).await?;
        let changed = diesel::sql_query(
            "UPDATE copies SET state = 'due', due_at = clock_timestamp(), due_since = clock_timestamp(), \
                    verified_at = NULL, verify_mode = NULL, stored_size = NULL, \
                    last_error = $3, cause = $4, failed_at = clock_timestamp() \
              WHERE file_id = $1 AND repository = $2 AND state = 'verified'",
        )
        .bind::<BigInt, _>(claim.file.0)
        .bind::<Text, _>(repository.as_str())
        .bind::<Text, _>(reason)
        .bind::<Text, _>(cause)
        .execute(conn)
        .await?;
        if changed == 0 {
            // Retention deletes it, or somebody else found out first.
            return Ok(());
        }
        diesel::sql_query(
            "UPDATE wal_files f SET status = 'PENDING' \
              WHERE f.id = $1 AND f.attempt = $2 AND f.status = 'VERIFIED' \
                AND EXISTS (SELECT 1 FROM copies c \
                             WHERE c.file_id = f.id AND c.required AND c.state = 'due')",
        )
        .bind::<BigInt, _>(claim.file.0)
        .bind::<Integer, _>(claim.attempt.0)
        .execute(conn)
        .await?;
        let message = format!("`{}`: {reason}", file.file);
        critical(conn, claim.file, "damaged-copy", message).await
    })
    .await
}
