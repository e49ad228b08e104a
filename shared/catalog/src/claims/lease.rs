//! Keeping a claim, and giving it back.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Double, Integer, Nullable, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::error::CatalogError;
use crate::ids::{Attempt, ClaimToken, FileId};
use crate::rows::{self, Keep as _};

/// What every write of a claim repeats: `$1` is the file, `$2` the attempt.
///
/// An expired lease is lost even when nobody has taken it over yet, so a worker that was
/// frozen past it and comes back changes nothing. Nobody holds a file that retention is
/// deleting or that was set aside.
pub(crate) const FENCE: &str = "f.id = $1 AND f.attempt = $2 AND f.claimed_by IS NOT NULL \
     AND f.lease_until > clock_timestamp() AND f.status IN ('PENDING', 'VERIFIED')";

/// A copy, `c`, is due: in these words where copies of one file are looked for.
///
/// In others (`c.state = 'due'`) it allows the index that holds only what is due. That index
/// looks empty to a planner whose statistics are older than the backlog, and is then read from
/// end to end for each file; the one on `file_id` never has more than a few rows to give.
/// `OFFSET 0` in an `EXISTS` beside it keeps a planner that knows of a large backlog from
/// reading the whole table once instead.
pub(crate) const COPY_DUE: &str = "c.state NOT IN ('verified', 'expiring')";

/// A local file, `l`, lies in its directory: in these words where those of one file are looked
/// for, for the same reason. And so it is with `coalesce(f.due_at, 'infinity') < 'infinity'`,
/// for `f.due_at IS NOT NULL`, where one file is looked for.
pub(crate) const STILL_THERE: &str = "coalesce(l.deleted_at, 'infinity') = 'infinity'";

/// No copy is due and no local file waits to be compared or deleted.
pub(crate) const NOTHING_LEFT: &str = "(NOT EXISTS (SELECT 1 FROM copies c WHERE c.file_id = f.id \
                         AND c.state NOT IN ('verified', 'expiring') OFFSET 0) \
      AND NOT EXISTS (SELECT 1 FROM local_files l WHERE l.file_id = f.id \
                         AND coalesce(l.deleted_at, 'infinity') = 'infinity' AND l.quarantined_at IS NULL OFFSET 0))";

/// How a claim ends without success.
#[derive(Debug, Clone)]
pub enum ReleaseAs {
    /// This worker shuts down: nothing is counted, the file is claimable at once.
    Drained,
    /// The file as a whole could not be worked on.
    Failed {
        error: String,
        cause: &'static str,
        retry_after: Duration,
    },
    /// Not a failure: the file is not ready to be archived.
    NotYet {
        reason: String,
        retry_after: Duration,
    },
    /// Only what is left to do is looked at again, after a local file was found gone.
    Nothing,
}

/// Prolongs leases; returns the claims that are still held. Each other one is lost, and its
/// handler has to stop.
pub async fn renew(
    conn: &mut AsyncPgConnection,
    claims: &[ClaimToken],
    lease: Duration,
) -> Result<Vec<ClaimToken>, CatalogError> {
    #[derive(QueryableByName)]
    struct Held {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Integer)]
        attempt: i32,
    }
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let held = diesel::sql_query(
        "UPDATE wal_files f SET lease_until = clock_timestamp() + make_interval(secs => $3), lease_length = $3 \
           FROM unnest($1::bigint[], $2::integer[]) AS t (id, attempt) \
          WHERE f.id = t.id AND f.attempt = t.attempt AND f.claimed_by IS NOT NULL \
            AND f.lease_until > clock_timestamp() \
         RETURNING f.id, f.attempt",
    )
    .bind::<Array<BigInt>, _>(claims.iter().map(|token| token.file.0).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(
        claims
            .iter()
            .map(|token| token.attempt.0)
            .collect::<Vec<_>>(),
    )
    .bind::<Double, _>(rows::seconds(lease))
    .kept()
    .load::<Held>(conn)
    .await?;
    Ok(held
        .into_iter()
        .map(|row| ClaimToken {
            file: FileId(row.id),
            attempt: Attempt(row.attempt),
        })
        .collect())
}

/// Looked at before every PUT and every unlink.
pub async fn still_held(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
) -> Result<bool, CatalogError> {
    let held = diesel::sql_query(format!("SELECT f.id FROM wal_files f WHERE {FENCE}"))
        .bind::<BigInt, _>(claim.file.0)
        .bind::<Integer, _>(claim.attempt.0)
        .kept()
        .load::<rows::Id>(conn)
        .await?;
    Ok(!held.is_empty())
}

/// Ends a claim without success.
///
/// # Errors
/// `LostClaim` when it was not held any more.
pub async fn release(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    how: ReleaseAs,
) -> Result<(), CatalogError> {
    let (failed, error, cause, wait) = match how {
        ReleaseAs::Drained | ReleaseAs::Nothing => (0, None, None, Duration::ZERO),
        ReleaseAs::Failed {
            error,
            cause,
            retry_after,
        } => (1, Some(error), Some(cause), retry_after),
        ReleaseAs::NotYet {
            reason,
            retry_after,
        } => (0, Some(reason), Some("not-yet"), retry_after),
    };
    let changed = diesel::sql_query(format!(
        "UPDATE wal_files f SET claimed_by = NULL, lease_until = NULL, failures = f.failures + $3, \
                last_error = coalesce($4, f.last_error), last_cause = coalesce($5, f.last_cause), \
                failed_at = CASE WHEN $3 > 0 THEN clock_timestamp() ELSE f.failed_at END, \
                due_at = CASE WHEN {NOTHING_LEFT} THEN NULL \
                              ELSE clock_timestamp() + make_interval(secs => $6) END \
          WHERE {FENCE}"
    ))
    .bind::<BigInt, _>(claim.file.0)
    .bind::<Integer, _>(claim.attempt.0)
    .bind::<Integer, _>(failed)
    .bind::<Nullable<Text>, _>(error)
    .bind::<Nullable<Text>, _>(cause)
    .bind::<Double, _>(rows::seconds(wait))
    .kept()
    .execute(conn)
    .await?;
    if changed == 0 {
        return Err(lost(claim));
    }
    Ok(())
}

/// Gives back everything that `worker` holds, as drained. Returns how many claims that were.
pub async fn release_all(conn: &mut AsyncPgConnection, worker: &str) -> Result<u64, CatalogError> {
    let changed = diesel::sql_query(format!(
        "UPDATE wal_files f SET claimed_by = NULL, lease_until = NULL, \
                due_at = CASE WHEN {NOTHING_LEFT} THEN NULL ELSE clock_timestamp() END \
          WHERE f.claimed_by = $1 AND f.lease_until > clock_timestamp()"
    ))
    .bind::<Text, _>(worker)
    .kept()
    .execute(conn)
    .await?;
    Ok(changed as u64)
}

pub(crate) fn lost(claim: ClaimToken) -> CatalogError {
    CatalogError::LostClaim {
        file: claim.file,
        attempt: claim.attempt,
    }
}
