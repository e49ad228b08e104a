//! Rows against objects: does the catalog know what a bucket really holds?

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use walferry_catalog::{Catalog, CatalogError, CopyState, Prefix, retention};
use walferry_layout::{object_key, parse_key};
use walferry_proof::{KeyPrefix, ObjectKey, RepositoryName};
use walferry_store::{ReadRepository, StoreError};
use walferry_wal::WalFile;

/// Rows per query, objects per request.
const PAGE: u32 = 10_000;
const LISTED: usize = 1000;

/// Differences that are named; the others are counted.
const NAMED: usize = 100;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    pub repository: RepositoryName,
    pub prefix: KeyPrefix,
    /// WAL files seen in the bucket.
    pub objects: u64,
    /// Copies that the catalog has as verified there.
    pub copies: u64,
    /// Objects under the prefix that are no WAL file: marks, and what others put there.
    pub others: u64,
    /// How many differences there are, and the first hundred of them.
    pub total: u64,
    pub differences: Vec<Difference>,
    /// Every file whose object is missing, for [`crate::repair`].
    #[serde(skip)]
    pub missing: Vec<WalFile>,
    /// Every object that the catalog has never heard of.
    #[serde(skip)]
    pub unknown: Vec<ObjectKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "difference", rename_all = "kebab-case")]
pub enum Difference {
    /// In the bucket, and the catalog has never heard of it.
    Unknown { key: ObjectKey, size: u64 },
    /// Verified by the catalog's word, and not in the bucket.
    Missing { key: ObjectKey },
    Size {
        key: ObjectKey,
        recorded: u64,
        found: u64,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("`{repository}` lists the same page of `{prefix}` again and again")]
    Endless {
        repository: RepositoryName,
        prefix: KeyPrefix,
    },
}

/// Compares a prefix of the catalog with what a repository lists there. Reads only.
///
/// Rows are read before the listing: whatever was verified by then must be listed. What is
/// listed beyond that may have been archived in between, so the catalog is asked once more
/// before it is called unknown (a file has its row before its first PUT).
///
/// # Errors
/// The repository's and the catalog's; nothing is known then.
pub async fn compare(
    catalog: &Catalog,
    prefix: &Prefix,
    repository: &dyn ReadRepository,
) -> Result<Comparison, CompareError> {
    let mut found = Comparison {
        repository: repository.name().clone(),
        prefix: prefix.key_prefix.clone(),
        objects: 0,
        copies: 0,
        others: 0,
        total: 0,
        differences: Vec::new(),
        missing: Vec::new(),
        unknown: Vec::new(),
    };
    let mut rows = rows(catalog, prefix, repository.name()).await?;
    found.copies = rows.values().filter(|row| row.verified).count() as u64;

    let mut unknown = Vec::new();
    let mut after: Option<ObjectKey> = None;
    loop {
        let page = repository
            .list(&prefix.key_prefix, after.as_ref(), LISTED)
            .await?;
        found.others += page.skipped as u64;
        let last = page.objects.last().map(|object| object.key.clone());
        for object in page.objects {
            let Some(file) = parse_key(&prefix.key_prefix, &object.key) else {
                found.others += 1;
                continue;
            };
            found.objects += 1;
            match rows.remove(&file) {
                Some(row) => {
                    if let (true, Some(recorded)) = (row.verified, row.size)
                        && recorded != object.size
                    {
                        found.differs(Difference::Size {
                            key: object.key,
                            recorded,
                            found: object.size,
                        });
                    }
                }
                None => unknown.push((file, object.size)),
            }
        }
        if !page.more {
            break;
        }
        if last <= after {
            return Err(CompareError::Endless {
                repository: repository.name().clone(),
                prefix: prefix.key_prefix.clone(),
            });
        }
        after = last;
    }

    for page in unknown.chunks(PAGE as usize) {
        let names: Vec<WalFile> = page.iter().map(|(file, _)| *file).collect();
        let mut conn = catalog.get().await?;
        let known = retention::registered(&mut conn, prefix.id, &names).await?;
        let known: std::collections::HashSet<WalFile> = known.into_iter().collect();
        for (file, size) in page.iter().filter(|(file, _)| !known.contains(file)) {
            let key = object_key(&prefix.key_prefix, file);
            found.unknown.push(key.clone());
            found.differs(Difference::Unknown { key, size: *size });
        }
    }
    let missing = rows.into_iter().filter(|(_, row)| row.verified);
    let mut missing: Vec<WalFile> = missing.map(|(file, _)| file).collect();
    missing.sort_unstable();
    for file in &missing {
        let key = object_key(&prefix.key_prefix, file);
        found.differs(Difference::Missing { key });
    }
    found.missing = missing;
    Ok(found)
}

impl Comparison {
    /// Whether rows and objects agree.
    pub fn equal(&self) -> bool {
        self.total == 0
    }

    fn differs(&mut self, difference: Difference) {
        self.total += 1;
        if self.differences.len() < NAMED {
            self.differences.push(difference);
        }
    }
}

struct Row {
    verified: bool,
    size: Option<u64>,
}

async fn rows(
    catalog: &Catalog,
    prefix: &Prefix,
    repository: &RepositoryName,
) -> Result<HashMap<WalFile, Row>, CatalogError> {
    let mut rows = HashMap::new();
    let mut after: Option<WalFile> = None;
    loop {
        // One connection per page: listing a large bucket takes minutes, and a connection
        // is not held through it.
        let mut conn = catalog.get().await?;
        let page = retention::files(&mut conn, prefix.id, after.as_ref(), PAGE).await?;
        after = page.last().map(|row| row.file);
        let full = page.len() == PAGE as usize;
        for file in page {
            let copy = file
                .copies
                .iter()
                .find(|copy| copy.repository == *repository);
            let verified = copy.filter(|copy| copy.state == CopyState::Verified);
            rows.insert(
                file.file,
                Row {
                    verified: verified.is_some(),
                    size: verified.and_then(|copy| copy.stored_size),
                },
            );
        }
        if !full {
            return Ok(rows);
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { key, size } => {
                write!(
                    f,
                    "`{key}` ({size} bytes) is in the bucket, the catalog does not know it"
                )
            }
            Self::Missing { key } => {
                write!(
                    f,
                    "`{key}` is verified by the catalog's word, the bucket does not have it"
                )
            }
            Self::Size {
                key,
                recorded,
                found,
            } => write!(
                f,
                "`{key}` has {found} bytes, the catalog recorded {recorded}"
            ),
        }
    }
}
