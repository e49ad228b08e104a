//! What lies further ahead than it can: left over from before the catalog's clock was set back.
//!
//! Without this a dead worker's files, and copies that wait for their next try, would wait for
//! as long as the clock was set back by.

use std::time::Duration;

use diesel::sql_types::{Array, Double, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::take::ClaimRequest;
use crate::error::CatalogError;
use crate::repositories::texts;
use crate::rows;

/// How much is cut by one statement; the next claim cuts on.
const AT_ONCE: u32 = 1000;

/// Whether there is anything to cut, as SQL; `$2` is the longest delay, `$3` the repositories.
/// Every claim asks, also a worker's first: both indexes have what is furthest ahead at their
/// end, or hold only what is claimed.
pub(super) const AHEAD: &str = "(EXISTS (SELECT 1 FROM wal_files WHERE claimed_by IS NOT NULL \
              AND lease_until > statement_timestamp() + make_interval(secs => lease_length) OFFSET 0) \
      OR EXISTS (SELECT 1 FROM copies WHERE repository = ANY ($3) AND state = 'due' \
                    AND due_at > statement_timestamp() + make_interval(secs => $2) OFFSET 0))";

/// Cuts leases to their own length and the delays of copies to the longest there is. Rows that
/// somebody else has locked are passed over: whoever lives writes them anew.
pub(super) async fn cut(
    conn: &mut AsyncPgConnection,
    request: &ClaimRequest<'_>,
) -> Result<(), CatalogError> {
    diesel::sql_query(format!(
        "UPDATE wal_files f \
            SET lease_until = statement_timestamp() + make_interval(secs => f.lease_length) \
           FROM (SELECT id FROM wal_files WHERE claimed_by IS NOT NULL \
                    AND lease_until > statement_timestamp() + make_interval(secs => lease_length) \
                  LIMIT {AT_ONCE} FOR UPDATE SKIP LOCKED) ahead \
          WHERE f.id = ahead.id"
    ))
    .execute(conn)
    .await?;
    diesel::sql_query(format!(
        "UPDATE copies c SET due_at = statement_timestamp() + make_interval(secs => $1) \
           FROM (SELECT file_id, repository FROM copies \
                  WHERE repository = ANY ($2) AND state = 'due' \
                    AND due_at > statement_timestamp() + make_interval(secs => $1) \
                  LIMIT {AT_ONCE} FOR UPDATE SKIP LOCKED) ahead \
          WHERE c.file_id = ahead.file_id AND c.repository = ahead.repository"
    ))
    .bind::<Double, _>(rows::seconds(request.longest_delay))
    .bind::<Array<Text>, _>(texts(request.repositories_up))
    .execute(conn)
    .await?;
    Ok(())
}

/// When a file is due, as SQL: at once if that lies further ahead than the longest delay.
pub(super) fn due(longest_delay: Duration) -> String {
    let longest = longest_delay.as_secs_f64();
    format!(
        "(CASE WHEN f.due_at > statement_timestamp() + make_interval(secs => {longest}) \
               THEN statement_timestamp() ELSE f.due_at END)"
    )
}
