//! Content that contradicts what is known: set aside, never overwritten, never deleted.

use diesel::sql_types::BigInt;
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};

use super::proof::LockedFile;
use crate::claims::{ReleaseAs, release};
use crate::error::CatalogError;
use crate::events::{NewEvent, Severity, record};
use crate::ids::{ClaimToken, ClusterId, DirectoryId, FileId};
use crate::rows;
use crate::suspects::{NewSuspect, report};

/// Sets one directory's file aside in place; the file's row keeps its status and copies,
/// and the claim ends.
///
/// # Errors
/// `LostClaim`.
pub async fn quarantine_local(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    directory: DirectoryId,
    reason_code: &str,
    reason: &str,
) -> Result<(), CatalogError> {
    conn.transaction(async |conn| {
        let file = LockedFile::lock(conn, claim).await?;
        diesel::sql_query(
            "UPDATE local_files SET quarantined_at = clock_timestamp() \
              WHERE file_id = $1 AND directory_id = $2 AND deleted_at IS NULL",
        )
        .bind::<BigInt, _>(claim.file.0)
        .bind::<BigInt, _>(directory.0)
        .execute(conn)
        .await?;
        let suspect = NewSuspect {
            name: file.file.to_string(),
            reason_code: reason_code.to_owned(),
            reason: reason.to_owned(),
            critical: true,
        };
        report(conn, directory, &[suspect]).await?;
        critical(
            conn,
            claim.file,
            "quarantined",
            format!("`{}`: {reason}", file.file),
        )
        .await?;
        release(conn, claim, ReleaseAs::Nothing).await
    })
    .await
}

pub(super) async fn critical(
    conn: &mut AsyncPgConnection,
    file: FileId,
    code: &'static str,
    message: String,
) -> Result<(), CatalogError> {
    let cluster = diesel::sql_query(
        "SELECT p.cluster_id AS id FROM wal_files f JOIN prefixes p ON p.id = f.prefix_id WHERE f.id = $1",
    )
    .bind::<BigInt, _>(file.0)
    .load::<rows::Id>(conn)
    .await?;
    record(
        conn,
        &NewEvent {
            severity: Severity::Critical,
            code,
            cluster: cluster.into_iter().next().map(|row| ClusterId(row.id)),
            message,
        },
    )
    .await
}
