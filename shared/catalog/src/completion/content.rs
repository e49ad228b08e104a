//! A file's content and how it is packed, recorded before the first PUT.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Binary, Integer, Nullable, SmallInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use walferry_proof::{Md5, Sha256};

use crate::claims::{Encoder, FENCE, lost};
use crate::error::CatalogError;
use crate::ids::ClaimToken;
use crate::rows::{self, Keep as _};

/// What packing a file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Of the uncompressed file.
    pub sha256: Sha256,
    pub size: u64,
    pub encoder: Encoder,
    pub compressed_size: u64,
    pub compressed_md5: Md5,
}

/// Records content and packing, before the first PUT: later attempts are told the encoder with
/// their claim, so a PUT that they repeat carries the same bytes.
///
/// # Errors
/// `Conflict` when the name is registered with other content: nothing changes. `LostClaim`.
pub async fn set_packed(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    packed: &Packed,
) -> Result<(), CatalogError> {
    let changed = diesel::sql_query(format!(
        "UPDATE wal_files f SET sha256 = $3, size_bytes = $4, encoder = $5, level = $6, \
                compressed_size = $7, compressed_md5 = $8 \
          WHERE {FENCE} AND (f.sha256 IS NULL OR f.sha256 = $3)"
    ))
    .bind::<BigInt, _>(claim.file.0)
    .bind::<Integer, _>(claim.attempt.0)
    .bind::<Binary, _>(packed.sha256.to_bytes().to_vec())
    .bind::<BigInt, _>(rows::bits(packed.size))
    .bind::<Text, _>(&packed.encoder.name)
    .bind::<SmallInt, _>(i16::from(packed.encoder.level))
    .bind::<BigInt, _>(rows::bits(packed.compressed_size))
    .bind::<Binary, _>(packed.compressed_md5.to_bytes().to_vec())
    .kept()
    .execute(conn)
    .await?;
    settle(conn, claim, packed.sha256, changed).await
}

/// Records content and encoder, for a file that is packed while it is sent.
///
/// # Errors
/// As `set_packed`.
pub async fn set_content(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    sha256: Sha256,
    size: u64,
    encoder: &Encoder,
) -> Result<(), CatalogError> {
    let changed = diesel::sql_query(format!(
        "UPDATE wal_files f SET sha256 = $3, size_bytes = $4, encoder = $5, level = $6 \
          WHERE {FENCE} AND (f.sha256 IS NULL OR f.sha256 = $3)"
    ))
    .bind::<BigInt, _>(claim.file.0)
    .bind::<Integer, _>(claim.attempt.0)
    .bind::<Binary, _>(sha256.to_bytes().to_vec())
    .bind::<BigInt, _>(rows::bits(size))
    .bind::<Text, _>(&encoder.name)
    .bind::<SmallInt, _>(i16::from(encoder.level))
    .kept()
    .execute(conn)
    .await?;
    settle(conn, claim, sha256, changed).await
}

/// Tells other content from a lost claim when nothing was written.
async fn settle(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    found: Sha256,
    changed: usize,
) -> Result<(), CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Nullable<Binary>)]
        sha256: Option<Vec<u8>>,
    }
    if changed > 0 {
        return Ok(());
    }
    let row = diesel::sql_query(format!(
        "SELECT f.name::text AS name, f.sha256 FROM wal_files f WHERE {FENCE}"
    ))
    .bind::<BigInt, _>(claim.file.0)
    .bind::<Integer, _>(claim.attempt.0)
    .kept()
    .load::<Row>(conn)
    .await?
    .into_iter()
    .next();
    match row {
        Some(Row {
            name,
            sha256: Some(recorded),
        }) => Err(CatalogError::Conflict {
            name,
            recorded: rows::sha256(&recorded)?,
            found,
        }),
        _ => Err(lost(claim)),
    }
}
