//! Taking files: the claim statement.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Double, Nullable, Text};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use walferry_proof::RepositoryName;

use super::clock;
use super::row::{CLAIM_COLUMNS, Claim, ClaimRow, load};
use crate::clusters::PREFIX_COLUMNS;
use crate::completion::Enough;
use crate::error::CatalogError;
use crate::ids::{ClusterId, DirectoryId};
use crate::repositories::texts;
use crate::rows::{self, Keep as _};

/// A file whose claims ended this often in a crash is tried alone and last.
pub const CRASHES_BEFORE_ALONE: i32 = 3;

/// How long such a file waits after its last crash: the longest back-off there is.
pub const CRASH_BACKOFF: Duration = Duration::from_secs(300);

/// Who asks, and what it could work on.
#[derive(Debug, Clone)]
pub struct ClaimRequest<'a> {
    /// Identity of the worker's process.
    pub worker: &'a str,
    pub lease: Duration,
    pub limit: u32,
    /// `None`: of any cluster.
    pub cluster: Option<ClusterId>,
    /// Directories that this worker can read and delete in.
    pub directories: &'a [DirectoryId],
    /// Repositories whose breaker lets requests through.
    pub repositories_up: &'a [RepositoryName],
    /// `Copies(n)`: also files with n verified copies whose local twin may be deleted early.
    pub enough: Enough,
    /// No file or copy waits for longer than this after a failure.
    pub longest_delay: Duration,
}

/// Takes up to `limit` files that this worker can do something for: history files before
/// all, then the oldest contiguous ones; with them, copies that a repository still lacks.
///
/// Files that are leased elsewhere are skipped, never waited for, so two workers never get
/// the same one. An expired lease is taken over and counted as a crash of its owner. A file
/// with three crashes is given only to a worker that holds nothing else, when nothing else
/// is to be had, and alone.
///
/// # Errors
/// Only the database's. When the commit's answer is lost the files stay leased to this
/// worker until the lease ends.
pub async fn claim(
    conn: &mut AsyncPgConnection,
    request: &ClaimRequest<'_>,
) -> Result<Vec<Claim>, CatalogError> {
    let unfinished = unfinished(conn, request).await?;
    if unfinished.prefixes.is_empty() {
        return Ok(Vec::new());
    }
    let prefixes = unfinished.prefixes;
    // In one transaction with reading what the claims need: a lost connection in between
    // rolls the leases back instead of leaving files leased to nobody.
    conn.transaction(async |conn| {
        if unfinished.ahead {
            clock::cut(conn, request).await?;
        }
        let mut claimed = Vec::new();
        for alone in [false, true] {
            if claimed.is_empty() {
                claimed = take(conn, request, &prefixes, alone).await?;
            }
        }
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        // RETURNING keeps no order.
        claimed.sort_by(|a, b| a.order().cmp(&b.order()));
        load(conn, claimed).await
    })
    .await
}

/// Where a statement looks for files. Each has an index of its own, so that none walks over
/// what only the others can give.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// Files that no claim has finished with, in the order of WAL.
    Fresh { prefix: i64 },
    /// Copies that this repository lacks since an earlier claim, in the order they are due.
    Missing { repository: &'a RepositoryName },
    /// Files that wait for a repository and whose local twin may be deleted early.
    Early { prefix: i64 },
}

/// New files and missing copies share the limit when there are both: a cloud that came back
/// is healed while new segments go on being archived.
async fn take(
    conn: &mut AsyncPgConnection,
    request: &ClaimRequest<'_>,
    prefixes: &[i64],
    alone: bool,
) -> Result<Vec<ClaimRow>, CatalogError> {
    let limit = if alone { 1 } else { request.limit as usize };
    let fresh = prefixes.iter().map(|&prefix| Source::Fresh { prefix });
    let missing = request
        .repositories_up
        .iter()
        .map(|repository| Source::Missing { repository });
    let early = prefixes
        .iter()
        .filter(|_| request.enough != Enough::AllRequired)
        .map(|&prefix| Source::Early { prefix });
    let plan = fresh
        .clone()
        .map(|source| (source, limit.div_ceil(2)))
        .chain(missing.chain(early).map(|source| (source, limit)))
        .chain(fresh.map(|source| (source, limit)));
    let mut claimed: Vec<ClaimRow> = Vec::new();
    for (source, upto) in plan {
        if claimed.len() < upto {
            let wanted = upto - claimed.len();
            claimed.extend(run(conn, request, prefixes, source, alone, wanted).await?);
        }
    }
    Ok(claimed)
}

async fn run(
    conn: &mut AsyncPgConnection,
    request: &ClaimRequest<'_>,
    prefixes: &[i64],
    source: Source<'_>,
    alone: bool,
    wanted: usize,
) -> Result<Vec<ClaimRow>, CatalogError> {
    let (prefix, repository) = match source {
        Source::Fresh { prefix } | Source::Early { prefix } => (Some(prefix), None),
        Source::Missing { repository } => (None, Some(repository.as_str())),
    };
    let claimed = diesel::sql_query(statement(source, request.longest_delay))
        .bind::<Nullable<BigInt>, _>(prefix)
        .bind::<Bool, _>(alone)
        .bind::<BigInt, _>(wanted as i64)
        .bind::<Text, _>(request.worker)
        .bind::<Double, _>(rows::seconds(request.lease))
        .bind::<Array<BigInt>, _>(
            request
                .directories
                .iter()
                .map(|id| id.0)
                .collect::<Vec<_>>(),
        )
        .bind::<Array<Text>, _>(texts(request.repositories_up))
        .bind::<Nullable<BigInt>, _>(request.enough.copies())
        .bind::<Nullable<Text>, _>(repository)
        .bind::<Array<BigInt>, _>(prefixes)
        .kept()
        .load(conn)
        .await?;
    Ok(claimed)
}

/// Where there is something left to do.
struct Unfinished {
    /// In random order: no cluster is always first.
    prefixes: Vec<i64>,
    /// Something lies further ahead than it can.
    ahead: bool,
}

async fn unfinished(
    conn: &mut AsyncPgConnection,
    request: &ClaimRequest<'_>,
) -> Result<Unfinished, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Array<BigInt>)]
        prefixes: Vec<i64>,
        #[diesel(sql_type = Bool)]
        ahead: bool,
    }
    // One look a prefix into each index, however long the backlog is: `OFFSET 0` keeps the
    // planner from reading them whole.
    let row = diesel::sql_query(format!(
        "WITH unfinished AS MATERIALIZED ( \
            SELECT p.id FROM prefixes p \
             WHERE ($1 IS NULL OR p.cluster_id = $1) \
               AND (EXISTS (SELECT 1 FROM wal_files f \
                             WHERE f.prefix_id = p.id AND f.due_at IS NOT NULL AND NOT f.parked OFFSET 0) \
                    OR EXISTS (SELECT 1 FROM wal_files f \
                                WHERE f.prefix_id = p.id AND f.due_at IS NOT NULL AND f.parked OFFSET 0))) \
         SELECT ARRAY(SELECT id FROM unfinished ORDER BY random()) AS prefixes, \
                CASE WHEN EXISTS (SELECT 1 FROM unfinished) THEN {} ELSE false END AS ahead",
        clock::AHEAD
    ))
    .bind::<Nullable<BigInt>, _>(request.cluster.map(|id| id.0))
    .bind::<Double, _>(rows::seconds(request.longest_delay))
    .bind::<Array<Text>, _>(texts(request.repositories_up))
    .kept()
    .get_result::<Row>(conn)
    .await?;
    Ok(Unfinished {
        prefixes: row.prefixes,
        ahead: row.ahead,
    })
}

fn statement(source: Source<'_>, longest_delay: Duration) -> String {
    let due = clock::due(longest_delay);
    let backoff = CRASH_BACKOFF.as_secs();
    // One prefix at a time where the index gives the order: the scan stops at the limit
    // however long the backlog is.
    let (from, order) = match source {
        Source::Fresh { .. } => (
            "wal_files f WHERE f.prefix_id = $1 AND f.due_at IS NOT NULL AND NOT f.parked",
            "f.claim_rank, f.name",
        ),
        Source::Early { .. } => (
            "wal_files f WHERE f.prefix_id = $1 AND f.due_at IS NOT NULL AND f.parked",
            "f.claim_rank, f.name",
        ),
        Source::Missing { .. } => (
            "copies m JOIN wal_files f ON f.id = m.file_id \
              WHERE m.repository = $9 AND m.state = 'due' AND m.parked \
                AND m.due_at <= statement_timestamp() \
                AND f.prefix_id = ANY ($10) AND coalesce(f.due_at, 'infinity') < 'infinity' AND f.parked",
            "m.due_at",
        ),
    };
    // statement_timestamp() is the catalog's clock and, unlike clock_timestamp(), one value
    // for the whole statement.
    format!(
        "WITH picked AS ( \
            SELECT f.id, f.lease_until IS NOT NULL AS taken_over FROM {from} \
               AND {due} <= statement_timestamp() AND f.status IN ('PENDING', 'VERIFIED') \
               AND (f.lease_until IS NULL OR f.lease_until <= statement_timestamp()) \
               AND (f.crashes + (f.lease_until IS NOT NULL)::int >= {CRASHES_BEFORE_ALONE}) = $2 \
               AND (NOT $2 OR f.lease_until IS NULL \
                    OR f.lease_until <= statement_timestamp() - interval '{backoff} s') \
               AND NOT EXISTS (SELECT 1 FROM wal_files held \
                                WHERE held.claimed_by = $4 AND held.lease_until > statement_timestamp() \
                                  AND ($2 OR held.crashes >= {CRASHES_BEFORE_ALONE})) \
               AND {WORK} \
             ORDER BY {order} \
             LIMIT $3 \
             FOR UPDATE OF f SKIP LOCKED) \
         UPDATE wal_files f \
            SET attempt = f.attempt + 1, claimed_by = $4, \
                lease_until = clock_timestamp() + make_interval(secs => $5), lease_length = $5, \
                crashes = f.crashes + (f.lease_until IS NOT NULL)::int \
           FROM picked, prefixes p \
          WHERE f.id = picked.id AND p.id = f.prefix_id \
         RETURNING {CLAIM_COLUMNS}, picked.taken_over, {PREFIX_COLUMNS}"
    )
}

/// Whether this worker could do something for `f`: make a copy that is due, from its own
/// disk or from another cloud, or delete a local file that is archived. Written as `COPY_DUE`
/// and `STILL_THERE` are, and for their reason.
const WORK: &str = "( \
    (EXISTS (SELECT 1 FROM copies c WHERE c.file_id = f.id AND c.state NOT IN ('verified', 'expiring') \
                AND c.due_at <= statement_timestamp() AND c.repository = ANY ($7) OFFSET 0) \
     AND (EXISTS (SELECT 1 FROM local_files l WHERE l.file_id = f.id AND coalesce(l.deleted_at, 'infinity') = 'infinity' \
                     AND l.quarantined_at IS NULL AND l.directory_id = ANY ($6) OFFSET 0) \
          OR EXISTS (SELECT 1 FROM copies v WHERE v.file_id = f.id AND v.state = 'verified' \
                        AND v.repository = ANY ($7) OFFSET 0))) \
    OR (EXISTS (SELECT 1 FROM local_files l WHERE l.file_id = f.id AND coalesce(l.deleted_at, 'infinity') = 'infinity' \
                   AND l.quarantined_at IS NULL AND l.directory_id = ANY ($6) OFFSET 0) \
        AND (NOT EXISTS (SELECT 1 FROM copies c WHERE c.file_id = f.id AND c.state NOT IN ('verified', 'expiring') OFFSET 0) \
             OR (SELECT count(*) FROM copies v WHERE v.file_id = f.id AND v.state = 'verified') >= $8)))";
