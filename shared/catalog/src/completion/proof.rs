//! `Archived`: the proof that a local file may be deleted.

use std::num::NonZeroU32;
use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, Text};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use walferry_proof::{RepositoryName, Sha256, Verified};
use walferry_wal::WalFile;

use super::complete::finish;
use crate::claims::{FENCE, STILL_THERE, lost};
use crate::error::CatalogError;
use crate::ids::{ClaimToken, DirectoryId, FileId};
use crate::intake::LocalStat;
use crate::rows::{self, Keep as _};

/// When a local file may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enough {
    /// Every required repository has a verified copy.
    AllRequired,
    /// So many have: only above the directory's high-water mark, when the operator allows it.
    Copies(NonZeroU32),
}

/// Proof that a file's content is verified in enough repositories and that the catalog's
/// commit of that is durable. Made only here, after that commit.
///
/// It speaks of *content*: whoever deletes a local file must know that it is the file whose
/// SHA-256 this is.
#[derive(Debug)]
#[must_use]
pub struct Archived {
    claim: ClaimToken,
    file: WalFile,
    sha256: Sha256,
    copies: Vec<RepositoryName>,
    all_required: bool,
}

/// How a claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// A local file is still there: put back, in another host's directory, or not deletable.
    pub local_remains: bool,
}

/// The proof for a file that was verified before and lies (again) in a directory, or that
/// has enough copies for an early deletion. `sha256` is of the local file, just read.
///
/// `None` when too few copies are verified. The claim stays held either way.
///
/// # Errors
/// `Conflict` when the file holds other content than what is archived. `LostClaim`.
pub async fn prove_archived(
    conn: &mut AsyncPgConnection,
    claim: ClaimToken,
    sha256: Sha256,
    enough: Enough,
) -> Result<Option<Archived>, CatalogError> {
    // What this transaction reads, others have committed: with synchronous_commit = on a
    // commit is on disk before anybody sees it.
    let (file, standing) = conn
        .transaction(async |conn| {
            let file = LockedFile::lock(conn, claim).await?;
            let standing = Standing::read(conn, claim.file).await?;
            Ok::<_, CatalogError>((file, standing))
        })
        .await?;
    match file.sha256 {
        None => Ok(None),
        Some(recorded) if recorded != sha256 => Err(CatalogError::Conflict {
            name: file.file.to_string(),
            recorded,
            found: sha256,
        }),
        Some(_) if standing.permits(enough) => Ok(Archived::after_commit(claim, file, &standing)),
        Some(_) => Ok(None),
    }
}

/// Records which local files were unlinked, and ends the claim.
///
/// Called also with none, when nothing could be unlinked. A file that was handed over again
/// in the meantime has another stat and stays known as present. A crash right before this
/// call leaves a claim whose file is gone from disk: the next claim finds that out.
///
/// # Errors
/// `LostClaim`: somebody else ends it.
pub async fn local_deleted(
    conn: &mut AsyncPgConnection,
    archived: &Archived,
    deleted: &[(DirectoryId, LocalStat)],
) -> Result<Finished, CatalogError> {
    let claim = archived.claim;
    let column = |pick: fn(&(DirectoryId, LocalStat)) -> i64| -> Vec<i64> {
        deleted.iter().map(pick).collect()
    };
    conn.transaction(async |conn| {
        LockedFile::lock(conn, claim).await?;
        diesel::sql_query(format!(
            "UPDATE local_files l SET deleted_at = clock_timestamp() \
               FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
                    AS d (directory_id, dev, ino, size, mtime_ns) \
              WHERE l.file_id = $1 AND l.directory_id = d.directory_id AND {STILL_THERE} \
                AND l.dev = d.dev AND l.ino = d.ino AND l.size = d.size AND l.mtime_ns = d.mtime_ns"
        ))
        .bind::<BigInt, _>(claim.file.0)
        .bind::<Array<BigInt>, _>(column(|at| at.0.0))
        .bind::<Array<BigInt>, _>(column(|at| rows::bits(at.1.dev)))
        .bind::<Array<BigInt>, _>(column(|at| rows::bits(at.1.ino)))
        .bind::<Array<BigInt>, _>(column(|at| rows::bits(at.1.size)))
        .bind::<Array<BigInt>, _>(column(|at| at.1.mtime_ns))
        .kept()
        .execute(conn)
        .await?;
        let standing = Standing::read(conn, claim.file).await?;
        // A file that could not be unlinked is not tried in a tight loop.
        let wait = if standing.local_remains {
            Duration::from_secs(5)
        } else {
            Duration::ZERO
        };
        finish(conn, claim, wait).await?;
        Ok(Finished {
            local_remains: standing.local_remains,
        })
    })
    .await
}

impl Archived {
    /// Called after COMMIT returned, and by nobody else.
    pub(super) fn after_commit(
        claim: ClaimToken,
        file: LockedFile,
        standing: &Standing,
    ) -> Option<Self> {
        Some(Self {
            claim,
            sha256: file.sha256?,
            file: file.file,
            all_required: standing.all_required(),
            copies: standing.verified.clone(),
        })
    }

    pub fn token(&self) -> ClaimToken {
        self.claim
    }

    pub fn file(&self) -> &WalFile {
        &self.file
    }

    /// Of the uncompressed file.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// Repositories that hold it.
    pub fn copies(&self) -> &[RepositoryName] {
        &self.copies
    }

    pub fn all_required(&self) -> bool {
        self.all_required
    }
}

impl Enough {
    pub(crate) fn copies(self) -> Option<i64> {
        match self {
            Self::AllRequired => None,
            Self::Copies(number) => Some(i64::from(number.get())),
        }
    }
}

/// A claimed file, locked for the rest of the transaction.
pub(super) struct LockedFile {
    pub(super) file: WalFile,
    sha256: Option<Sha256>,
    key: String,
}

impl LockedFile {
    /// # Errors
    /// `LostClaim` when the claim is not held.
    pub(super) async fn lock(
        conn: &mut AsyncPgConnection,
        claim: ClaimToken,
    ) -> Result<Self, CatalogError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            name: String,
            #[diesel(sql_type = Text)]
            key: String,
            #[diesel(sql_type = Nullable<Binary>)]
            sha256: Option<Vec<u8>>,
        }
        let row = diesel::sql_query(format!(
            "SELECT f.name::text AS name, p.key_prefix || f.name || '.gz' AS key, f.sha256 \
               FROM wal_files f JOIN prefixes p ON p.id = f.prefix_id WHERE {FENCE} FOR UPDATE OF f"
        ))
        .bind::<BigInt, _>(claim.file.0)
        .bind::<Integer, _>(claim.attempt.0)
        .kept()
        .load::<Row>(conn)
        .await?
        .into_iter()
        .next()
        .ok_or_else(|| lost(claim))?;
        Ok(Self {
            file: rows::parse("file name", &row.name)?,
            sha256: row.sha256.as_deref().map(rows::sha256).transpose()?,
            key: row.key,
        })
    }

    /// Whether a proof speaks of this file's object and content.
    pub(super) fn accepts(&self, proof: &Verified) -> Result<(), CatalogError> {
        if proof.key().as_str() != self.key {
            return Err(CatalogError::ForeignProof {
                expected: self.key.clone(),
                proven: proof.key().to_string(),
            });
        }
        match self.sha256 {
            Some(recorded) if recorded == proof.sha256() => Ok(()),
            Some(recorded) => Err(CatalogError::Conflict {
                name: self.file.to_string(),
                recorded,
                found: proof.sha256(),
            }),
            None => Err(CatalogError::NotPacked {
                name: self.file.to_string(),
            }),
        }
    }
}

/// Where a file's copies are and whether it still lies on a disk.
pub(super) struct Standing {
    pub(super) verified: Vec<RepositoryName>,
    pub(super) missing: Vec<RepositoryName>,
    pub(super) local_remains: bool,
}

impl Standing {
    pub(super) async fn read(
        conn: &mut AsyncPgConnection,
        file: FileId,
    ) -> Result<Self, CatalogError> {
        #[derive(QueryableByName)]
        struct Copy {
            #[diesel(sql_type = Text)]
            repository: String,
            #[diesel(sql_type = Bool)]
            required: bool,
            #[diesel(sql_type = Bool)]
            verified: bool,
        }
        let copies = diesel::sql_query(
            "SELECT repository, required, state = 'verified' AS verified FROM copies \
              WHERE file_id = $1 ORDER BY repository",
        )
        .bind::<BigInt, _>(file.0)
        .kept()
        .load::<Copy>(conn)
        .await?;
        let local = diesel::sql_query(format!(
            "SELECT l.id FROM local_files l WHERE l.file_id = $1 AND {STILL_THERE} \
                AND l.quarantined_at IS NULL"
        ))
        .bind::<BigInt, _>(file.0)
        .kept()
        .load::<rows::Id>(conn)
        .await?;
        let mut standing = Self {
            verified: Vec::new(),
            missing: Vec::new(),
            local_remains: !local.is_empty(),
        };
        for copy in copies {
            let repository = rows::parse("repository name", &copy.repository)?;
            if copy.verified {
                standing.verified.push(repository);
            } else if copy.required {
                standing.missing.push(repository);
            }
        }
        Ok(standing)
    }

    /// No copy at all is not "all": content that is nowhere is not archived.
    pub(super) fn all_required(&self) -> bool {
        self.missing.is_empty() && !self.verified.is_empty()
    }

    pub(super) fn permits(&self, enough: Enough) -> bool {
        self.all_required()
            || match enough {
                Enough::AllRequired => false,
                Enough::Copies(number) => self.verified.len() >= number.get() as usize,
            }
    }
}
