//! Timeline histories that a repository lacks: asked of the server and archived.
//!
//! PostgreSQL archives a history when it makes it; one from before archiving was switched on
//! it never hands over, and without it no recovery crosses that promotion.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use walferry_catalog::{
    Catalog, CatalogError, Encoder, PrefixId,
    adoption::{self, Adoption},
    labels,
};
use walferry_killpoint::kill_point;
use walferry_layout::{metadata::ObjectMetadata, object_key};
use walferry_pack::pack::{ENCODER, PackError, Packer};
use walferry_pack::pool::{PackPool, PoolGone};
use walferry_pack::unpack::{self, UnpackError};
use walferry_proof::{
    Evidence, KeyPrefix, Mismatch, ObjectKey, Reported, RepositoryName, Verified,
};
use walferry_replication::{Connection, ReplicationError};
use walferry_store::{Repository, StoreError};
use walferry_wal::{History, SystemId, TimelineId, WalFile};

/// That of WAL by default; a history has some hundred bytes.
const LEVEL: u8 = 9;

/// A history could not be archived.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("ask the server for the history of timeline {timeline}")]
    Server {
        timeline: TimelineId,
        #[source]
        source: ReplicationError,
    },
    #[error("the server's history of timeline {timeline} cannot be understood")]
    Unreadable {
        timeline: TimelineId,
        #[source]
        source: walferry_wal::HistoryError,
    },
    /// Two servers have gone separate ways under one timeline.
    #[error(
        "`{key}` in `{repository}` is not the history that this server has: another server promoted to the same timeline, and a base backup of this one would not fit its WAL. HINT: find out which server's WAL lies there; this one has to archive into a prefix of its own"
    )]
    Differs {
        repository: RepositoryName,
        key: ObjectKey,
        #[source]
        source: Mismatch,
    },
    #[error("`{key}` in `{repository}` cannot be read back")]
    ReadBack {
        repository: RepositoryName,
        key: ObjectKey,
        #[source]
        source: UnpackError,
    },
    #[error("`{key}` vanished from `{repository}` while it was verified")]
    Vanished {
        repository: RepositoryName,
        key: ObjectKey,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("pack a history")]
    Pack(#[from] PackError),
    #[error(transparent)]
    Pool(#[from] PoolGone),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Whose histories, and where they go.
pub(crate) struct Histories<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) prefix: &'a KeyPrefix,
    pub(crate) system_id: SystemId,
    pub(crate) repositories: &'a [Arc<dyn Repository>],
    pub(crate) required: &'a [RepositoryName],
    pub(crate) catalog: Option<(&'a Catalog, PrefixId)>,
    pub(crate) pool: &'a PackPool,
}

impl Histories<'_> {
    /// Archives the history of `timeline` and of each of its ancestors where it is missing;
    /// returns those that were. A repository that does not answer gets them later: they are
    /// due in the catalog then, and archiving copies them.
    ///
    /// # Errors
    /// [`HistoryError`]; above all when a repository has another history of that timeline.
    pub(crate) async fn archive(
        &self,
        server: &mut Connection,
        timeline: TimelineId,
    ) -> Result<Vec<TimelineId>, HistoryError> {
        let mut archived = Vec::new();
        for timeline in lineage(server, timeline).await? {
            let (timeline, content) = timeline;
            if self.one(timeline, &content).await? {
                archived.push(timeline);
            }
        }
        Ok(archived)
    }

    /// Whether it was missing anywhere.
    async fn one(&self, timeline: TimelineId, content: &Bytes) -> Result<bool, HistoryError> {
        let file = WalFile::History(timeline);
        let key = object_key(self.prefix, &file);
        let (now, sha256) = (Utc::now(), walferry_proof::sha256(content));
        let mut missing = false;
        let mut proofs = Vec::new();
        let mut packed = None;
        for repository in self.repositories {
            let repository = &**repository;
            let there = match repository.head(&key).await {
                Ok(facts) => facts.is_some(),
                Err(error) => {
                    tell(repository, &error);
                    continue;
                }
            };
            if !there {
                missing = true;
                let body = match &packed {
                    Some(body) => Bytes::clone(body),
                    None => packed.insert(self.pack(content).await?).clone(),
                };
                let metadata = self.metadata(sha256, content, now);
                let md5 = walferry_proof::md5(&body);
                // A crash before leaves nothing. One after leaves an object that the catalog
                // does not know; the next base finds it and catalogs it.
                kill_point!("backup-history.put.before");
                let put = repository.put_new(&key, body, &metadata, &md5).await;
                kill_point!("backup-history.put.after");
                if let Err(error) = put {
                    tell(repository, &error);
                    continue;
                }
            }
            match self.prove(repository, &key, sha256, content).await {
                Ok(proof) => proofs.push(proof),
                Err(HistoryError::Store(error)) => tell(repository, &error),
                Err(error) => return Err(error),
            }
        }
        self.catalog(file, content, now, &proofs).await?;
        Ok(missing)
    }

    /// What lies there is read and unpacked: it is the server's, or another's.
    async fn prove(
        &self,
        repository: &dyn Repository,
        key: &ObjectKey,
        sha256: walferry_proof::Sha256,
        content: &Bytes,
    ) -> Result<Verified, HistoryError> {
        let place = || (repository.name().clone(), key.clone());
        let Some(object) = repository.get(key).await? else {
            let (repository, key) = place();
            return Err(HistoryError::Vanished { repository, key });
        };
        let contents = match unpack::contents(self.pool, object.body).await {
            Ok(contents) => contents,
            Err(UnpackError::Store(error)) => return Err(error.into()),
            Err(source) => {
                let (repository, key) = place();
                return Err(HistoryError::ReadBack {
                    repository,
                    key,
                    source,
                });
            }
        };
        let reported = Reported {
            repository: repository.name().clone(),
            key: key.clone(),
            evidence: Evidence::ReadBack {
                stored_size: contents.stored_size,
                stored_md5: contents.stored_md5,
                plain_sha256: contents.plain_sha256,
                plain_size: contents.plain_size,
            },
        };
        Verified::adopt(sha256, content.len() as u64, reported).map_err(|source| {
            let (repository, key) = place();
            HistoryError::Differs {
                repository,
                key,
                source,
            }
        })
    }

    async fn catalog(
        &self,
        file: WalFile,
        content: &Bytes,
        now: DateTime<Utc>,
        proofs: &[Verified],
    ) -> Result<(), HistoryError> {
        let Some((catalog, prefix)) = self.catalog else {
            return Ok(());
        };
        if proofs.is_empty() {
            return Ok(());
        }
        let adoption = Adoption {
            file,
            sha256: walferry_proof::sha256(content),
            size: content.len() as u64,
            encoder: Some(Encoder {
                name: ENCODER.to_owned(),
                level: LEVEL,
            }),
            mtime: now,
            last_modified: now,
        };
        let mut conn = catalog.get().await?;
        adoption::adopt(&mut conn, prefix, &adoption, proofs, self.required).await?;
        labels::insert_history(&mut conn, prefix, file.timeline(), content).await?;
        Ok(())
    }

    async fn pack(&self, content: &Bytes) -> Result<Bytes, HistoryError> {
        let content = content.clone();
        let packed = self.pool.run(move |scratch| {
            let mut packer = Packer::new(LEVEL, content.len() as u64)?;
            packer.add(&mut scratch.bench, &content)?;
            packer.finish(&mut scratch.bench)
        });
        Ok(packed.await??)
    }

    fn metadata(
        &self,
        sha256: walferry_proof::Sha256,
        content: &Bytes,
        mtime: DateTime<Utc>,
    ) -> BTreeMap<String, String> {
        ObjectMetadata {
            sha256,
            size: content.len() as u64,
            cluster: self.cluster.to_owned(),
            system_id: self.system_id,
            encoder: ENCODER.to_owned(),
            level: LEVEL,
            mtime,
        }
        .to_map()
    }
}

/// The history of `timeline` and of each ancestor that has one, oldest first. One that the
/// server has lost is nobody's to give.
async fn lineage(
    server: &mut Connection,
    timeline: TimelineId,
) -> Result<Vec<(TimelineId, Bytes)>, HistoryError> {
    let mut found = Vec::new();
    let Some(own) = ask(server, timeline).await? else {
        return Ok(found);
    };
    let history = History::parse(timeline, &own)
        .map_err(|source| HistoryError::Unreadable { timeline, source })?;
    for entry in &history.entries {
        if let Some(content) = ask(server, entry.parent).await? {
            History::parse(entry.parent, &content).map_err(|source| HistoryError::Unreadable {
                timeline: entry.parent,
                source,
            })?;
            found.push((entry.parent, content));
        }
    }
    found.push((timeline, own));
    Ok(found)
}

/// The first timeline has no history.
async fn ask(server: &mut Connection, timeline: TimelineId) -> Result<Option<Bytes>, HistoryError> {
    if timeline.get() == 1 {
        return Ok(None);
    }
    server
        .timeline_history(timeline)
        .await
        .map_err(|source| HistoryError::Server { timeline, source })
}

fn tell(repository: &dyn Repository, error: &StoreError) {
    tracing::warn!(
        repository.name = %repository.name(),
        error = error as &dyn std::error::Error,
        "a timeline history was not archived there now"
    );
}
