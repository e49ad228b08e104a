//! Recording what the repositories proved, in one durable commit.

use std::time::Duration;

use diesel::sql_types::{BigInt, Double, Integer, Text};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use walferry_proof::{RepositoryName, Verified};

use super::proof::{Archived, Enough, LockedFile, Standing};
use crate::claims::{COPY_DUE, NOTHING_LEFT};
use crate::error::CatalogError;
use crate::ids::ClaimToken;
use crate::rows::{self, Keep as _};

/// A copy that this claim could not make.
#[derive(Debug, Clone)]
pub struct CopyFailure {
    pub repository: RepositoryName,
    pub error: String,
    /// A word of a bounded set, for metrics and `status`.
    pub cause: String,
    pub retry_after: Duration,
}

/// How a claim stands after its commit.
#[derive(Debug)]
#[must_use]
pub enum Completed {
    /// The local file may go. The claim is still held: unlink, then `local_deleted`.
    Archived(Archived),
    /// The claim is released.
    Waiting(Waiting),
}

/// What a released claim leaves to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Required repositories without a verified copy. Empty: the file is VERIFIED.
    pub missing: Vec<RepositoryName>,
    pub local_remains: bool,
    pub all_required: bool,
}

/// Records verified copies and failed ones, and settles the file's status, in one commit.
///
/// The file becomes VERIFIED when every required repository has proven its copy, never
/// sooner. The claim stays held only when a local file may now be deleted.
///
/// # Errors
/// `LostClaim`: nothing was recorded. `ForeignProof` or `Conflict` when a proof speaks of
/// another object or other content. After an error of the connection it is unknown whether
/// the commit happened; the next claim finds out.
pub async fn complete(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    verified: Vec<Verified>,
    failures: Vec<CopyFailure>,
    enough: Enough,
) -> Result<Completed, CatalogError> {
    let (file, standing) = conn
        .transaction(async |conn| {
            // What follows this commit is an unlink. A crash right after it must find the
            // commit on the catalog's disk, whatever a pooler or a role made of the session.
            diesel::sql_query("SET LOCAL synchronous_commit = on")
                .kept()
                .execute(conn)
                .await?;
            let file = LockedFile::lock(conn, claim).await?;
            for proof in &verified {
                file.accepts(proof)?;
                record_verified(conn, claim, proof).await?;
            }
            if !verified.is_empty() {
                record_stored(conn, claim).await?;
            }
            for failure in &failures {
                record_failure(conn, claim, failure).await?;
            }
            let standing = Standing::read(conn, claim.file).await?;
            settle(conn, claim, &standing, enough).await?;
            Ok::<_, CatalogError>((file, standing))
        })
        .await?;
    // The commit has returned: from here on `Archived` tells the truth.
    if standing.permits(enough)
        && standing.local_remains
        && let Some(archived) = Archived::after_commit(claim, file, &standing)
    {
        return Ok(Completed::Archived(archived));
    }
    Ok(Completed::Waiting(Waiting {
        all_required: standing.all_required(),
        missing: standing.missing,
        local_remains: standing.local_remains,
    }))
}

async fn record_verified(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    proof: &Verified,
) -> Result<(), CatalogError> {
    // A copy that retention is deleting stays so: its object may be gone in a moment.
    diesel::sql_query(
        "INSERT INTO copies AS c (file_id, repository, state, stored_size, verify_mode, verified_at) \
         VALUES ($1, $2, 'verified', $3, $4, clock_timestamp()) \
         ON CONFLICT (file_id, repository) DO UPDATE SET \
            state = 'verified', stored_size = excluded.stored_size, verify_mode = excluded.verify_mode, \
            verified_at = excluded.verified_at, last_error = NULL, cause = NULL \
          WHERE c.state <> 'expiring'",
    )
    .bind::<BigInt, _>(claim.file.0)
    .bind::<Text, _>(proof.repository().as_str())
    .bind::<BigInt, _>(rows::bits(proof.stored_size()))
    .bind::<Text, _>(proof.mode().as_str())
    .kept()
    .execute(conn)
    .await?;
    Ok(())
}

/// The file's compressed size is that of the object verified first: what a streamed file
/// packs to is known no sooner, and an adopted object is cataloged as it is.
async fn record_stored(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
) -> Result<(), CatalogError> {
    diesel::sql_query(
        "UPDATE wal_files f SET compressed_size = c.stored_size \
           FROM (SELECT stored_size FROM copies WHERE file_id = $1 AND state = 'verified' \
                  ORDER BY verified_at, repository LIMIT 1) c \
          WHERE f.id = $1 AND f.compressed_size IS DISTINCT FROM c.stored_size",
    )
    .bind::<BigInt, _>(claim.file.0)
    .kept()
    .execute(conn)
    .await?;
    Ok(())
}

async fn record_failure(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    failure: &CopyFailure,
) -> Result<(), CatalogError> {
    diesel::sql_query(format!(
        "UPDATE copies c SET attempts = attempts + 1, last_error = $3, cause = $4, \
                failed_at = clock_timestamp(), \
                due_at = clock_timestamp() + make_interval(secs => $5) \
          WHERE c.file_id = $1 AND c.repository = $2 AND {COPY_DUE}"
    ))
    .bind::<BigInt, _>(claim.file.0)
    .bind::<Text, _>(failure.repository.as_str())
    .bind::<Text, _>(&failure.error)
    .bind::<Text, _>(&failure.cause)
    .bind::<Double, _>(rows::seconds(failure.retry_after))
    .kept()
    .execute(conn)
    .await?;
    Ok(())
}

/// Status and claim follow from the copies; the row is locked.
async fn settle(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    standing: &Standing,
    enough: Enough,
) -> Result<(), CatalogError> {
    if standing.all_required() {
        diesel::sql_query(
            "UPDATE wal_files f SET status = 'VERIFIED', \
                    verified_at = coalesce(f.verified_at, clock_timestamp()), \
                    crashes = 0, failures = 0, last_error = NULL, last_cause = NULL \
              WHERE f.id = $1 AND f.attempt = $2 AND f.status IN ('PENDING', 'VERIFIED')",
        )
        .bind::<BigInt, _>(claim.file.0)
        .bind::<Integer, _>(claim.attempt.0)
        .kept()
        .execute(conn)
        .await?;
    }
    if !(standing.permits(enough) && standing.local_remains) {
        finish(conn, claim, Duration::ZERO).await?;
    }
    Ok(())
}

/// Ends a claim that did all it could; the row is locked. What is left, a copy that is
/// missing or a local file, is looked at again after `wait`; missing copies have back-offs
/// of their own besides.
pub(super) async fn finish(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    wait: Duration,
) -> Result<(), CatalogError> {
    // Parked: a thousand files that wait for one cloud must not be walked over by each claim
    // that looks for new ones.
    diesel::sql_query(format!(
        "UPDATE copies c SET parked = true WHERE c.file_id = $1 AND {COPY_DUE} AND NOT c.parked"
    ))
    .bind::<BigInt, _>(claim.file.0)
    .kept()
    .execute(conn)
    .await?;
    diesel::sql_query(format!(
        "UPDATE wal_files f SET claimed_by = NULL, lease_until = NULL, \
                parked = EXISTS (SELECT 1 FROM copies c WHERE c.file_id = f.id AND {COPY_DUE} OFFSET 0), \
                due_at = CASE WHEN {NOTHING_LEFT} THEN NULL \
                              ELSE clock_timestamp() + make_interval(secs => $3) END \
          WHERE f.id = $1 AND f.attempt = $2"
    ))
    .bind::<BigInt, _>(claim.file.0)
    .bind::<Integer, _>(claim.attempt.0)
    .bind::<Double, _>(rows::seconds(wait))
    .kept()
    .execute(conn)
    .await?;
    Ok(())
}
