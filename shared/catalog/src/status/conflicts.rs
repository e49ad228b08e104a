//! Objects of other content that lie where a file's copy belongs.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use walferry_proof::RepositoryName;

use crate::error::CatalogError;
use crate::ids::ClusterId;
use crate::rows;

/// The cause of a copy that was not made because the key holds another content.
pub const OTHER_CONTENT: &str = "other-content";

/// An object that keeps a copy from being made until a person moves it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub cluster: String,
    pub repository: RepositoryName,
    pub key: String,
    pub error: String,
    /// Since when the copy is due.
    pub since: DateTime<Utc>,
}

/// Of one cluster or of all, by repository and key, at most 1,000.
pub async fn conflicts(
    conn: &mut AsyncPgConnection,
    cluster: Option<ClusterId>,
) -> Result<Vec<Conflict>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        cluster: String,
        #[diesel(sql_type = Text)]
        repository: String,
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = Text)]
        error: String,
        #[diesel(sql_type = Timestamptz)]
        since: DateTime<Utc>,
    }
    diesel::sql_query(
        "SELECT k.name AS cluster, c.repository, p.key_prefix || f.name || '.gz' AS key, \
                coalesce(c.last_error, '') AS error, c.due_since AS since \
           FROM copies c JOIN wal_files f ON f.id = c.file_id JOIN prefixes p ON p.id = f.prefix_id \
           JOIN clusters k ON k.id = p.cluster_id \
          WHERE c.state = 'due' AND c.cause = $2 AND ($1 IS NULL OR p.cluster_id = $1) \
          ORDER BY k.name, c.repository, f.name LIMIT 1000",
    )
    .bind::<Nullable<BigInt>, _>(cluster.map(|id| id.0))
    .bind::<Text, _>(OTHER_CONTENT)
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        Ok(Conflict {
            cluster: row.cluster,
            repository: rows::parse("repository name", &row.repository)?,
            key: row.key,
            error: row.error,
            since: row.since,
        })
    })
    .collect()
}
