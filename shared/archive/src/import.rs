//! Adopting what another system left in a prefix: every object is read, those that unpack to
//! the file that their name says are cataloged with their age, the rest is listed. Only then
//! is the owner mark set, and the prefix written to.
//!
//! A second run is harmless: adopting what is adopted changes nothing.

use std::{collections::BTreeMap, sync::Arc};

use walferry_catalog::{
    Catalog, CatalogError, Prefix,
    adoption::{self, Adoption},
    clusters, labels,
};
use walferry_layout::{metadata::ObjectMetadata, owner_key, parse_key};
use walferry_proof::{Evidence, ObjectKey, Reported, RepositoryName, Sha256, Verified};
use walferry_store::{Listed, Repository, StoreError};
use walferry_wal::{History, Label, PageHeader, SegmentSize, SystemId, WalFile};

use crate::{
    owner::{self, Owner, OwnerError},
    pool::PackPool,
    unpack::{self, Contents, UnpackError},
};

/// Objects asked for at once.
const PAGE: usize = 1000;

/// What an import found, or would do.
#[derive(Debug, Default)]
pub struct Imported {
    /// Objects read.
    pub objects: u64,
    /// Files cataloged, or to be cataloged.
    pub adopted: u64,
    /// Objects that stay as they are and are not cataloged.
    pub left: Vec<Left>,
    /// The database system whose WAL it is.
    pub system_id: Option<SystemId>,
}

/// An object that was not adopted.
#[derive(Debug)]
pub struct Left {
    /// Where.
    pub repository: RepositoryName,
    /// Which object.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// An import stopped. What was adopted stays adopted; run it again.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A repository failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The prefix is somebody else's.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// Reading an object was interrupted.
    #[error("read `{key}` back from `{repository}`")]
    Read {
        /// Where.
        repository: RepositoryName,
        /// Which object.
        key: ObjectKey,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// No segment says whose WAL this is.
    #[error(
        "prefix `{prefix}` holds no readable segment, so its system id is unknown. HINT: archive a segment of the cluster first, or give the cluster another prefix"
    )]
    NoSystem {
        /// Which prefix.
        prefix: String,
    },
}

/// Tells a person how far it is.
pub trait Progress: Send + Sync {
    /// One object was read.
    fn read(&self, repository: &RepositoryName, key: &ObjectKey);
}

/// Reads `prefix` in every repository; adopts and marks unless `dry_run`.
pub struct Import<'a> {
    /// Where adopted files are cataloged.
    pub catalog: &'a Catalog,
    /// Where hashing happens.
    pub pool: &'a PackPool,
    /// The repositories.
    pub repositories: &'a [Arc<dyn Repository>],
    /// Which of them VERIFIED needs.
    pub required: &'a [RepositoryName],
    /// The cluster's name.
    pub cluster: &'a str,
    /// The cluster's open prefix.
    pub prefix: &'a Prefix,
    /// Only tell.
    pub dry_run: bool,
}

struct Found {
    file: WalFile,
    contents: Contents,
    listed: Listed,
    metadata: Option<ObjectMetadata>,
    proofs: Vec<Verified>,
}

impl Import<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// [`ImportError`]. The mark is set last, so an interrupted import leaves a prefix that
    /// is still not written to.
    pub async fn run(&self, progress: &dyn Progress) -> Result<Imported, ImportError> {
        let mut imported = Imported {
            system_id: self.prefix.system_id,
            ..Imported::default()
        };
        let mut size = self.prefix.segment_size;
        let mut files: BTreeMap<WalFile, Found> = BTreeMap::new();
        for repository in self.repositories {
            let mut after: Option<ObjectKey> = None;
            loop {
                let page = repository
                    .list(&self.prefix.key_prefix, after.as_ref(), PAGE)
                    .await?;
                after = page.objects.last().map(|listed| listed.key.clone());
                for listed in page.objects {
                    self.look(
                        repository.as_ref(),
                        listed,
                        &mut files,
                        &mut imported,
                        &mut size,
                    )
                    .await?;
                    if let Some(key) = &after {
                        progress.read(repository.name(), key);
                    }
                }
                if !page.more {
                    break;
                }
            }
        }
        let (Some(system_id), Some(segment_size)) = (imported.system_id, size) else {
            if imported.objects == 0 {
                return Ok(imported);
            }
            return Err(ImportError::NoSystem {
                prefix: self.prefix.key_prefix.to_string(),
            });
        };
        imported.adopted = files.len() as u64;
        if self.dry_run {
            return Ok(imported);
        }
        let mut conn = self.catalog.get().await?;
        clusters::set_identity(&mut conn, self.prefix.id, system_id, segment_size).await?;
        drop(conn);
        for found in files.into_values() {
            self.adopt(found).await?;
        }
        let owner = Owner {
            cluster: self.cluster.to_owned(),
            system_id,
            segment_size,
        };
        for repository in self.repositories {
            owner::set_mark(repository.as_ref(), &self.prefix.key_prefix, &owner).await?;
        }
        Ok(imported)
    }

    async fn look(
        &self,
        repository: &dyn Repository,
        listed: Listed,
        files: &mut BTreeMap<WalFile, Found>,
        imported: &mut Imported,
        size: &mut Option<SegmentSize>,
    ) -> Result<(), ImportError> {
        let prefix = &self.prefix.key_prefix;
        if listed.key == owner_key(prefix) || listed.key == walferry_layout::catalog_key(prefix) {
            return Ok(());
        }
        imported.objects += 1;
        let mut leave = |reason: String| {
            imported.left.push(Left {
                repository: repository.name().clone(),
                key: listed.key.to_string(),
                reason,
            });
        };
        let Some(file) = parse_key(prefix, &listed.key) else {
            leave("its name is not that of an archived WAL file".to_owned());
            return Ok(());
        };
        let Some(object) = repository.get(&listed.key).await? else {
            return Ok(());
        };
        let metadata = ObjectMetadata::from_map(&object.facts.metadata).ok();
        let contents = match unpack::contents(self.pool, object.body).await {
            Ok(contents) => contents,
            Err(UnpackError::Damaged(error)) => {
                leave(format!("it does not unpack: {error}"));
                return Ok(());
            }
            Err(source) => {
                return Err(ImportError::Read {
                    repository: repository.name().clone(),
                    key: listed.key,
                    source,
                });
            }
        };
        match fits(&file, &contents, imported.system_id) {
            Ok(Some((system_id, segment_size))) => {
                imported.system_id = Some(system_id);
                *size = Some(segment_size);
            }
            Ok(None) => {}
            Err(reason) => {
                leave(reason);
                return Ok(());
            }
        }
        let sha256 = contents.plain_sha256;
        let proof = Verified::adopt(
            sha256,
            contents.plain_size,
            reported(repository, &listed, &contents),
        );
        let Ok(proof) = proof else { return Ok(()) };
        match files.get_mut(&file) {
            None => {
                let proofs = vec![proof];
                files.insert(
                    file,
                    Found {
                        file,
                        contents,
                        listed,
                        metadata,
                        proofs,
                    },
                );
            }
            Some(found) if found.contents.plain_sha256 == sha256 => {
                found.listed.last_modified = found.listed.last_modified.min(listed.last_modified);
                found.proofs.push(proof);
            }
            Some(found) => leave(other_content(found.contents.plain_sha256, sha256)),
        }
        Ok(())
    }

    async fn adopt(&self, found: Found) -> Result<(), ImportError> {
        let adoption = Adoption {
            file: found.file,
            sha256: found.contents.plain_sha256,
            size: found.contents.plain_size,
            encoder: found
                .metadata
                .as_ref()
                .map(|metadata| walferry_catalog::Encoder {
                    name: metadata.encoder.clone(),
                    level: metadata.level,
                }),
            mtime: found
                .metadata
                .as_ref()
                .map_or(found.listed.last_modified, |metadata| metadata.mtime),
            last_modified: found.listed.last_modified,
        };
        let mut conn = self.catalog.get().await?;
        let adopted = adoption::adopt(
            &mut conn,
            self.prefix.id,
            &adoption,
            &found.proofs,
            self.required,
        )
        .await?;
        match found.file {
            WalFile::History(timeline) => {
                labels::insert_history(&mut conn, self.prefix.id, timeline, &found.contents.head)
                    .await?;
            }
            WalFile::Label { .. } => {
                if let Ok(label) = Label::parse(&found.contents.head) {
                    labels::insert_label(&mut conn, adopted.file, &label).await?;
                }
            }
            WalFile::Segment(_) | WalFile::Partial(_) => {}
        }
        Ok(())
    }
}

/// Whether the content is what the name says; a segment also tells whose it is.
fn fits(
    file: &WalFile,
    contents: &Contents,
    system: Option<SystemId>,
) -> Result<Option<(SystemId, SegmentSize)>, String> {
    match file {
        WalFile::Segment(name) | WalFile::Partial(name) => {
            let header = PageHeader::parse(&contents.head).map_err(|error| error.to_string())?;
            header
                .check(name, contents.plain_size, system)
                .map_err(|error| error.to_string())?;
            Ok(Some((header.system_id, header.segment_size)))
        }
        WalFile::History(timeline) => History::parse(*timeline, &contents.head)
            .map(|_| None)
            .map_err(|error| error.to_string()),
        WalFile::Label { .. } => Label::parse(&contents.head)
            .map(|_| None)
            .map_err(|error| error.to_string()),
    }
}

fn reported(repository: &dyn Repository, listed: &Listed, contents: &Contents) -> Reported {
    Reported {
        repository: repository.name().clone(),
        key: listed.key.clone(),
        evidence: Evidence::ReadBack {
            stored_size: contents.stored_size,
            stored_md5: contents.stored_md5,
            plain_sha256: contents.plain_sha256,
            plain_size: contents.plain_size,
        },
    }
}

fn other_content(first: Sha256, second: Sha256) -> String {
    format!("it unpacks to {second}, the same name in another repository to {first}")
}
