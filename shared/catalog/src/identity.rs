//! Which catalog this is, how far it has come, and whether it was compared with the buckets.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;
use walferry_proof::RepositoryName;

use crate::error::CatalogError;
use crate::ids::PrefixId;
use crate::rows;

/// A new catalog has a new id; one restored from the past has an epoch that is behind the
/// one that was written into the buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub id: Uuid,
    pub epoch: u64,
}

pub async fn read(conn: &mut AsyncPgConnection) -> Result<Identity, CatalogError> {
    let row = diesel::sql_query("SELECT id::text AS id, epoch FROM catalog_identity")
        .get_result::<IdentityRow>(conn)
        .await?;
    row.identity()
}

/// Raises the epoch above what it was and above `above`.
///
/// When the answer is lost the epoch may be raised all the same; it only ever grows, so a
/// second call is harmless.
pub async fn raise_epoch(
    conn: &mut AsyncPgConnection,
    above: u64,
) -> Result<Identity, CatalogError> {
    let row = diesel::sql_query(
        "UPDATE catalog_identity SET epoch = greatest(epoch, $1) + 1 RETURNING id::text AS id, epoch",
    )
    .bind::<BigInt, _>(i64::try_from(above).unwrap_or(i64::MAX - 1))
    .get_result::<IdentityRow>(conn)
    .await?;
    row.identity()
}

/// With which identity the catalog was last compared with what each repository holds under
/// this prefix.
pub async fn compared(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
) -> Result<Vec<(RepositoryName, Identity)>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        repository: String,
        #[diesel(sql_type = Text)]
        id: String,
        #[diesel(sql_type = BigInt)]
        epoch: i64,
    }
    diesel::sql_query(
        "SELECT repository, catalog::text AS id, epoch FROM compared_marks WHERE prefix_id = $1",
    )
    .bind::<BigInt, _>(prefix.0)
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        let (id, epoch) = (row.id, row.epoch);
        let identity = IdentityRow { id, epoch }.identity()?;
        Ok((rows::parse("repository", &row.repository)?, identity))
    })
    .collect()
}

/// Records that rows and objects under this prefix were found to agree.
pub async fn set_compared(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    repository: &RepositoryName,
    identity: &Identity,
) -> Result<(), CatalogError> {
    diesel::sql_query(
        "INSERT INTO compared_marks AS m (prefix_id, repository, catalog, epoch) \
         VALUES ($1, $2, $3::uuid, $4) \
         ON CONFLICT (prefix_id, repository) DO UPDATE SET \
            catalog = excluded.catalog, epoch = excluded.epoch, compared_at = clock_timestamp()",
    )
    .bind::<BigInt, _>(prefix.0)
    .bind::<Text, _>(repository.as_str())
    .bind::<Text, _>(identity.id.to_string())
    .bind::<BigInt, _>(rows::bits(identity.epoch))
    .execute(conn)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct IdentityRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    epoch: i64,
}

impl IdentityRow {
    fn identity(&self) -> Result<Identity, CatalogError> {
        Ok(Identity {
            id: rows::parse("catalog id", &self.id)?,
            epoch: rows::count("epoch", self.epoch)?,
        })
    }
}
