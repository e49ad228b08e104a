//! Holds: a person's word that nothing may be deleted until it is released.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;

use crate::error::CatalogError;
use crate::ids::{ClusterId, HoldId};
use crate::rows;

#[derive(Debug, Clone, Serialize)]
pub struct Hold {
    pub id: HoldId,
    /// `None`: of every cluster.
    pub cluster: Option<ClusterId>,
    pub reason: String,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
}

/// Stops all deletion in a cluster, or everywhere. A run under way stops before its next
/// object.
pub async fn hold(
    conn: &mut AsyncPgConnection,
    cluster: Option<ClusterId>,
    reason: &str,
    by: &str,
) -> Result<HoldId, CatalogError> {
    let row = diesel::sql_query(
        "INSERT INTO holds (cluster_id, reason, created_by) VALUES ($1, $2, $3) RETURNING id",
    )
    .bind::<Nullable<BigInt>, _>(cluster.map(|id| id.0))
    .bind::<Text, _>(reason)
    .bind::<Text, _>(by)
    .get_result::<rows::Id>(conn)
    .await?;
    Ok(HoldId(row.id))
}

/// Releases holds: one by its id, or with `None` all that are active on `cluster` (`None`:
/// those on every cluster). Returns what was released.
pub async fn release(
    conn: &mut AsyncPgConnection,
    which: Release,
    by: &str,
) -> Result<Vec<HoldId>, CatalogError> {
    let (id, cluster) = match which {
        Release::One(id) => (Some(id.0), None),
        Release::Of(cluster) => (None, cluster.map(|id| id.0)),
    };
    let rows = diesel::sql_query(
        "UPDATE holds SET released_at = clock_timestamp(), released_by = $3 \
          WHERE released_at IS NULL \
            AND CASE WHEN $1 IS NULL THEN cluster_id IS NOT DISTINCT FROM $2 ELSE id = $1 END \
         RETURNING id",
    )
    .bind::<Nullable<BigInt>, _>(id)
    .bind::<Nullable<BigInt>, _>(cluster)
    .bind::<Text, _>(by)
    .load::<rows::Id>(conn)
    .await?;
    Ok(rows.into_iter().map(|row| HoldId(row.id)).collect())
}

/// Which holds to release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    One(HoldId),
    /// All that were put on this cluster; `None`: all that were put on every cluster.
    Of(Option<ClusterId>),
}

/// Holds that stop deletion in `cluster`, those on every cluster included; `None`: all.
pub async fn active(
    conn: &mut AsyncPgConnection,
    cluster: Option<ClusterId>,
) -> Result<Vec<Hold>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Nullable<BigInt>)]
        cluster_id: Option<i64>,
        #[diesel(sql_type = Text)]
        reason: String,
        #[diesel(sql_type = Text)]
        created_by: String,
        #[diesel(sql_type = Timestamptz)]
        created_at: DateTime<Utc>,
    }
    let rows = diesel::sql_query(
        "SELECT id, cluster_id, reason, created_by, created_at FROM holds \
          WHERE released_at IS NULL AND ($1 IS NULL OR cluster_id IS NULL OR cluster_id = $1) \
          ORDER BY id",
    )
    .bind::<Nullable<BigInt>, _>(cluster.map(|id| id.0))
    .load::<Row>(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Hold {
            id: HoldId(row.id),
            cluster: row.cluster_id.map(ClusterId),
            reason: row.reason,
            created_by: row.created_by,
            created_at: row.created_at,
        })
        .collect())
}
