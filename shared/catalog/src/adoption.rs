//! `import`: objects that were in a repository before the catalog knew of them.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Nullable, SmallInt, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use walferry_proof::{RepositoryName, Sha256, Verified};
use walferry_wal::WalFile;

use crate::claims::{Encoder, NOTHING_LEFT};
use crate::error::CatalogError;
use crate::ids::{FileId, PrefixId};
use crate::intake::position;
use crate::repositories::texts;
use crate::rows;

/// A file as its object shows it, read back.
#[derive(Debug, Clone)]
pub struct Adoption {
    pub file: WalFile,
    /// Of the uncompressed file.
    pub sha256: Sha256,
    pub size: u64,
    /// Known only when the object's metadata says so.
    pub encoder: Option<Encoder>,
    /// The file's own mtime from the metadata, else LastModified.
    pub mtime: DateTime<Utc>,
    /// Of the object: from it the file's age is counted.
    pub last_modified: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    pub file: FileId,
    /// Whether the catalog did not know it.
    pub new: bool,
    /// Required repositories that lack it; they are due, and can be filled from the others.
    pub missing: Vec<RepositoryName>,
}

/// Takes an object over as it is, with its copies.
///
/// Harmless when repeated, and when repositories are imported one after the other: each
/// call adds what it proves. A file that is claimed or in the archive directory stays so.
///
/// # Errors
/// `Conflict` when the name is registered with other content, `ForeignProof` when a proof
/// speaks of another object. Nothing is written then.
pub async fn adopt(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    adoption: &Adoption,
    proofs: &[Verified],
    required: &[RepositoryName],
) -> Result<Adopted, CatalogError> {
    conn.transaction(async |conn| {
        diesel::sql_query("SET LOCAL synchronous_commit = on")
            .execute(conn)
            .await?;
        let row = lock_or_insert(conn, prefix, adoption, proofs).await?;
        check(adoption, proofs, &row)?;
        let file = FileId(row.id);
        add_copies(conn, file, proofs, required).await?;
        let missing = settle(conn, file, adoption, !proofs.is_empty()).await?;
        Ok(Adopted {
            file,
            new: row.new,
            missing,
        })
    })
    .await
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Bool)]
    new: bool,
    #[diesel(sql_type = Nullable<Binary>)]
    sha256: Option<Vec<u8>>,
    #[diesel(sql_type = Text)]
    key: String,
}

async fn lock_or_insert(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    adoption: &Adoption,
    proofs: &[Verified],
) -> Result<Row, CatalogError> {
    let at = position(&adoption.file);
    let stored = proofs.first().map(|proof| rows::bits(proof.stored_size()));
    // Updating nothing locks the row, and returns what it holds.
    diesel::sql_query(
        "INSERT INTO wal_files AS f (prefix_id, name, kind, timeline, log, seg, sha256, size_bytes, mtime, \
                                     encoder, level, compressed_size, registered_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, clock_timestamp()) \
         ON CONFLICT (prefix_id, name) DO UPDATE SET sha256 = coalesce(f.sha256, excluded.sha256), \
            size_bytes = coalesce(f.size_bytes, excluded.size_bytes), \
            compressed_size = coalesce(f.compressed_size, excluded.compressed_size) \
         RETURNING f.id, f.sha256, (xmax = 0) AS new, \
            (SELECT p.key_prefix || f.name || '.gz' FROM prefixes p WHERE p.id = f.prefix_id) AS key",
    )
    .bind::<BigInt, _>(prefix.0)
    .bind::<Text, _>(adoption.file.to_string())
    .bind::<Text, _>(adoption.file.kind().as_str())
    .bind::<BigInt, _>(i64::from(adoption.file.timeline().get()))
    .bind::<Nullable<BigInt>, _>(at.map(|at| at.0))
    .bind::<Nullable<BigInt>, _>(at.map(|at| at.1))
    .bind::<Binary, _>(adoption.sha256.to_bytes().to_vec())
    .bind::<BigInt, _>(rows::bits(adoption.size))
    .bind::<Timestamptz, _>(adoption.mtime)
    .bind::<Nullable<Text>, _>(adoption.encoder.as_ref().map(|encoder| encoder.name.as_str()))
    .bind::<Nullable<SmallInt>, _>(adoption.encoder.as_ref().map(|encoder| i16::from(encoder.level)))
    .bind::<Nullable<BigInt>, _>(stored)
    .get_result::<Row>(conn)
    .await
    .map_err(CatalogError::from)
}

/// The transaction is rolled back on an error, so the row is as it was.
fn check(adoption: &Adoption, proofs: &[Verified], row: &Row) -> Result<(), CatalogError> {
    let recorded = row.sha256.as_deref().map(rows::sha256).transpose()?;
    for found in proofs.iter().map(Verified::sha256).chain([adoption.sha256]) {
        if let Some(recorded) = recorded.filter(|recorded| *recorded != found) {
            return Err(CatalogError::Conflict {
                name: adoption.file.to_string(),
                recorded,
                found,
            });
        }
    }
    match proofs.iter().find(|proof| proof.key().as_str() != row.key) {
        Some(foreign) => Err(CatalogError::ForeignProof {
            expected: row.key.clone(),
            proven: foreign.key().to_string(),
        }),
        None => Ok(()),
    }
}

async fn add_copies(
    conn: &mut AsyncPgConnection,
    file: FileId,
    proofs: &[Verified],
    required: &[RepositoryName],
) -> Result<(), CatalogError> {
    for proof in proofs {
        diesel::sql_query(
            "INSERT INTO copies AS c (file_id, repository, state, required, stored_size, verify_mode, verified_at) \
             VALUES ($1, $2, 'verified', $3, $4, $5, clock_timestamp()) \
             ON CONFLICT (file_id, repository) DO UPDATE SET \
                state = 'verified', stored_size = excluded.stored_size, \
                verify_mode = excluded.verify_mode, verified_at = excluded.verified_at, \
                last_error = NULL, cause = NULL WHERE c.state = 'due'",
        )
        .bind::<BigInt, _>(file.0)
        .bind::<Text, _>(proof.repository().as_str())
        .bind::<Bool, _>(required.contains(proof.repository()))
        .bind::<BigInt, _>(rows::bits(proof.stored_size()))
        .bind::<Text, _>(proof.mode().as_str())
        .execute(conn)
        .await?;
    }
    // A file that is verified already keeps its set of copies.
    diesel::sql_query(
        "INSERT INTO copies (file_id, repository) \
         SELECT f.id, r.name FROM wal_files f CROSS JOIN unnest($2::text[]) AS r (name) \
          WHERE f.id = $1 AND f.status = 'PENDING' ORDER BY r.name ON CONFLICT DO NOTHING",
    )
    .bind::<BigInt, _>(file.0)
    .bind::<Array<Text>, _>(texts(required))
    .execute(conn)
    .await?;
    Ok(())
}

async fn settle(
    conn: &mut AsyncPgConnection,
    file: FileId,
    adoption: &Adoption,
    proven: bool,
) -> Result<Vec<RepositoryName>, CatalogError> {
    let missing: Vec<RepositoryName> = diesel::sql_query(
        "SELECT repository AS value FROM copies \
          WHERE file_id = $1 AND required AND state <> 'verified' ORDER BY repository",
    )
    .bind::<BigInt, _>(file.0)
    .load::<rows::Value>(conn)
    .await?
    .into_iter()
    .map(|row| rows::parse("repository name", &row.value))
    .collect::<Result<_, _>>()?;
    // Retention counts a file's age from here on, so an object of the old system does not
    // become a day old again by being imported.
    // Content that is nowhere is not verified, however few repositories are required.
    diesel::sql_query(format!(
        "UPDATE wal_files f SET \
            status = CASE WHEN $2 AND f.status = 'PENDING' THEN 'VERIFIED' ELSE f.status END, \
            verified_at = CASE WHEN $2 AND f.status = 'PENDING' THEN $3 ELSE f.verified_at END, \
            due_at = CASE WHEN f.claimed_by IS NULL AND f.status IN ('PENDING', 'VERIFIED') AND {NOTHING_LEFT} \
                          THEN NULL ELSE f.due_at END \
          WHERE f.id = $1"
    ))
    .bind::<BigInt, _>(file.0)
    .bind::<Bool, _>(missing.is_empty() && proven)
    .bind::<Timestamptz, _>(adoption.last_modified)
    .execute(conn)
    .await?;
    Ok(missing)
}
