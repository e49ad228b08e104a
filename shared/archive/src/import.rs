//! Adopting what another system left in a prefix: every object is read, those that unpack to
//! the file that their name says are cataloged with their age, the rest is listed. Only then
//! is the owner mark set, and the prefix written to.
//!
//! Whose the prefix is comes first: a stranger's archive is neither adopted nor marked.
//!
//! A second run is harmless: adopting what is adopted changes nothing.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use walferry_catalog::{
    Catalog, CatalogError, Prefix,
    adoption::{self, Adoption},
    clusters, labels,
};
use walferry_layout::{OwnerMark, metadata::ObjectMetadata, owner_key, parse_key};
use walferry_pack::pool::PackPool;
use walferry_pack::unpack::{self, Contents, UnpackError};
use walferry_proof::{Evidence, ObjectKey, Reported, RepositoryName, Sha256, Verified};
use walferry_store::{Listed, PutNew, Repository};
use walferry_wal::{
    HeaderError, History, HistoryError, Label, LabelError, PageHeader, SegmentSize, SystemId,
    WalFile,
};

pub use crate::import_error::ImportError;
use crate::owner::{self, Owner, OwnerError};

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
    pub key: ObjectKey,
    /// Why.
    pub reason: String,
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
    /// The cluster's database system by a person's word: a catalog that is new knows it from
    /// nobody else.
    pub system_id: Option<SystemId>,
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
            system_id: self.expected()?,
            ..Imported::default()
        };
        let mut size = self.prefix.segment_size;
        let mut marked = HashSet::new();
        for repository in self.repositories {
            let prefix = &self.prefix.key_prefix;
            if let Some(mark) = owner::read_mark(repository.as_ref(), prefix).await? {
                self.belongs(repository.name(), &mark, imported.system_id)?;
                size = size.or(Some(mark.segment_size));
                marked.insert(repository.name());
            }
        }
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
                        marked.contains(repository.name()),
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
        if self.dry_run {
            imported.adopted = files.len() as u64;
            return Ok(imported);
        }
        let mut conn = self.catalog.get().await?;
        clusters::set_identity(&mut conn, self.prefix.id, system_id, segment_size).await?;
        drop(conn);
        for found in files.into_values() {
            match self.adopt(&found).await {
                Ok(()) => imported.adopted += 1,
                // The name is known with other content: a file that waits in the archive
                // directory, say. One of the two is wrong, and a person has to look.
                Err(ImportError::Catalog(error @ CatalogError::Conflict { .. })) => {
                    imported.left.extend(found.proofs.iter().map(|proof| Left {
                        repository: proof.repository().clone(),
                        key: proof.key().clone(),
                        reason: error.to_string(),
                    }));
                }
                Err(error) => return Err(error),
            }
        }
        let owner = Owner {
            cluster: self.cluster.to_owned(),
            system_id,
            segment_size,
        };
        for repository in self.repositories {
            let (repository, prefix) = (repository.as_ref(), &self.prefix.key_prefix);
            if owner::set_mark(repository, prefix, &owner).await? == PutNew::Exists
                && let Some(mark) = owner::read_mark(repository, prefix).await?
            {
                // Set while the objects were read, perhaps by somebody else.
                self.belongs(repository.name(), &mark, imported.system_id)?;
            }
        }
        Ok(imported)
    }

    /// Which system the cluster is, by the catalog or by a person.
    fn expected(&self) -> Result<Option<SystemId>, CatalogError> {
        match (self.prefix.system_id, self.system_id) {
            (Some(recorded), Some(found)) if recorded != found => {
                Err(CatalogError::SystemMismatch {
                    prefix: self.prefix.key_prefix.clone(),
                    recorded,
                    found,
                })
            }
            (recorded, said) => Ok(recorded.or(said)),
        }
    }

    fn belongs(
        &self,
        repository: &RepositoryName,
        mark: &OwnerMark,
        expected: Option<SystemId>,
    ) -> Result<(), ImportError> {
        let (repository, prefix) = (repository.clone(), self.prefix.key_prefix.clone());
        let (cluster, found) = (mark.cluster.clone(), mark.system_id);
        match expected {
            Some(ours) if ours == found => Ok(()),
            Some(ours) => Err(ImportError::Owner(OwnerError::OtherSystem {
                repository,
                prefix,
                cluster,
                found,
                ours,
            })),
            None => Err(ImportError::Unconfirmed {
                repository,
                prefix,
                cluster,
                found,
            }),
        }
    }

    async fn look(
        &self,
        repository: &dyn Repository,
        listed: Listed,
        marked: bool,
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
                key: listed.key.clone(),
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
            Err(Misfit::Stranger { found, ours }) if !marked => {
                return Err(ImportError::Stranger {
                    repository: repository.name().clone(),
                    key: listed.key,
                    found,
                    ours,
                });
            }
            Err(misfit) => {
                leave(misfit.to_string());
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

    async fn adopt(&self, found: &Found) -> Result<(), ImportError> {
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

/// Why an object is not what its name says.
#[derive(Debug, thiserror::Error)]
enum Misfit {
    #[error("the segment belongs to system {found}, not to {ours}")]
    Stranger { found: SystemId, ours: SystemId },
    #[error(transparent)]
    Header(HeaderError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Label(#[from] LabelError),
}

impl From<HeaderError> for Misfit {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::System { expected, found } => Self::Stranger {
                found,
                ours: expected,
            },
            error => Self::Header(error),
        }
    }
}

/// Whether the content is what the name says; a segment also tells whose it is.
fn fits(
    file: &WalFile,
    contents: &Contents,
    system: Option<SystemId>,
) -> Result<Option<(SystemId, SegmentSize)>, Misfit> {
    match file {
        WalFile::Segment(name) | WalFile::Partial(name) => {
            let header = PageHeader::parse(&contents.head)?;
            header.check(name, contents.plain_size, system)?;
            Ok(Some((header.system_id, header.segment_size)))
        }
        WalFile::History(timeline) => {
            History::parse(*timeline, &contents.head)?;
            Ok(None)
        }
        WalFile::Label { .. } => {
            Label::parse(&contents.head)?;
            Ok(None)
        }
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
