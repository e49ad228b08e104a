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

/// The encoder to use: what an earlier attempt recorded, or `wanted`, recorded now.
///
/// So a PUT that is repeated by a later attempt carries the same bytes, also when the
/// setting or the backlog changed in between.
///
/// # Errors
/// `LostClaim`.
pub async fn choose_encoder(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    wanted: &Encoder,
) -> Result<Encoder, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        encoder: String,
        #[diesel(sql_type = SmallInt)]
        level: i16,
    }
    let row = diesel::sql_query(format!(
        "UPDATE wal_files f SET encoder = CASE WHEN f.level IS NULL THEN $3 ELSE coalesce(f.encoder, $3) END, \
                level = CASE WHEN f.encoder IS NULL THEN $4 ELSE coalesce(f.level, $4) END \
          WHERE {FENCE} RETURNING f.encoder, f.level"
    ))
    .bind::<BigInt, _>(claim.file.0)
    .bind::<Integer, _>(claim.attempt.0)
    .bind::<Text, _>(&wanted.name)
    .bind::<SmallInt, _>(i16::from(wanted.level))
    .kept()
    .load::<Row>(conn)
    .await?
    .into_iter()
    .next()
    .ok_or_else(|| lost(claim))?;
    Ok(Encoder {
        name: row.encoder,
        level: u8::try_from(row.level).map_err(|_| rows::malformed("level", row.level))?,
    })
}

/// Records content and packing.
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

/// Records the content alone, for a file that is packed while it is sent.
///
/// # Errors
/// As `set_packed`.
pub async fn set_content(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    sha256: Sha256,
    size: u64,
) -> Result<(), CatalogError> {
    let changed = diesel::sql_query(format!(
        "UPDATE wal_files f SET sha256 = $3, size_bytes = $4 \
          WHERE {FENCE} AND (f.sha256 IS NULL OR f.sha256 = $3)"
    ))
    .bind::<BigInt, _>(claim.file.0)
    .bind::<Integer, _>(claim.attempt.0)
    .bind::<Binary, _>(sha256.to_bytes().to_vec())
    .bind::<BigInt, _>(rows::bits(size))
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
