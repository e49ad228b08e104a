//! A missing copy from the cloud that has one: no segment is read or packed twice.
//!
//! The object is unpacked and its hash compared on the way, so a damaged copy is never
//! handed on: the upload is abandoned before its last byte is sent.

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream, FuturesUnordered},
};
use tokio::sync::oneshot;
use walferry_catalog::claims::{Claim, CopyState};
use walferry_killpoint::kill_point;
use walferry_layout::metadata::ObjectMetadata;
use walferry_pack::pack::Packed;
use walferry_pack::pool::PackPool;
use walferry_pack::unpack::{self, Contents, UnpackError, Unpacker};
use walferry_proof::{Expected, ExpectedEtag, Md5, ObjectKey, RepositoryName, Sha256, Verified};
use walferry_store::{At, ObjectStream, ReadRepository as _, Repository, StoreError};

use crate::{
    archiver::{Archiver, Target},
    copied::{Copied, chain},
    leases::Lease,
    owner::Owner,
    stream::ROOM,
    upload::{CopyError, Upload},
};

/// The copy in the other cloud cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No repository with a verified copy answers.
    #[error("no repository that holds a verified copy can be asked now")]
    None,
    /// The catalog says it is there, and it is not.
    #[error(
        "`{key}` is cataloged as verified in `{repository}` and is not there. HINT: run `walferry check`; somebody deleted it behind our back"
    )]
    Missing {
        /// Where.
        repository: RepositoryName,
        /// Which object.
        key: ObjectKey,
    },
    /// It is not even as long as what was verified.
    #[error(
        "`{key}` in `{repository}` has {found} bytes, {expected} were verified: somebody replaced it, and it was not handed on"
    )]
    Replaced {
        /// Where.
        repository: RepositoryName,
        /// Which object.
        key: ObjectKey,
        /// What the catalog says.
        expected: u64,
        /// What the cloud says.
        found: u64,
    },
    /// It is not the file that was verified.
    #[error(
        "`{key}` in `{repository}` unpacks to {found}, the catalog says {expected}: the copy is damaged and was not handed on"
    )]
    Damaged {
        /// Where.
        repository: RepositoryName,
        /// Which object.
        key: ObjectKey,
        /// What the catalog says.
        expected: Sha256,
        /// What it unpacks to.
        found: Sha256,
    },
    /// It could not be read to its end, or does not unpack.
    #[error("read `{key}` in `{repository}`, the copy to be handed on")]
    Unpack {
        /// Where.
        repository: RepositoryName,
        /// Which object.
        key: ObjectKey,
        /// Why.
        #[source]
        source: UnpackError,
    },
}

impl SourceError {
    /// The repository whose verified copy is shown to be none: it was read, and is not the
    /// file. `None` when it may be well and only could not be read now.
    #[must_use]
    pub fn lost(&self) -> Option<&RepositoryName> {
        match self {
            Self::Missing { repository, .. }
            | Self::Replaced { repository, .. }
            | Self::Damaged { repository, .. }
            | Self::Unpack {
                repository,
                source: UnpackError::Damaged(_),
                ..
            } => Some(repository),
            Self::None
            | Self::Unpack {
                source: UnpackError::Store(_) | UnpackError::Pool(_),
                ..
            } => None,
        }
    }

    /// A label out of a bounded set.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "copy-missing",
            _ if self.lost().is_some() => "copy-damaged",
            _ => "source",
        }
    }
}

/// What came of healing.
pub(crate) struct Healed {
    pub(crate) copied: Copied,
    /// Copies that no other cloud could give: the local file can, if it is there.
    pub(crate) unsourced: Vec<(Target, CopyError)>,
    /// Verified copies that are none, and why.
    pub(crate) lost: Vec<Lost>,
}

/// A copy that the catalog calls verified and that is missing or damaged.
pub(crate) struct Lost {
    pub(crate) repository: RepositoryName,
    pub(crate) cause: &'static str,
    pub(crate) reason: String,
}

/// Makes every copy that is due out of one that is verified, side by side.
pub(crate) async fn from_another(
    archiver: &Archiver,
    claim: &Claim,
    lease: &Lease,
    owner: &Owner,
    key: &ObjectKey,
    due: &[Target],
) -> Healed {
    let healing = Healing {
        archiver,
        claim,
        lease,
        owner,
        key,
    };
    let mut copies: FuturesUnordered<_> = due
        .iter()
        .map(|target| {
            let healing = &healing;
            async move { (target.clone(), healing.one(target).await) }
        })
        .collect();
    let mut healed = Healed {
        copied: Copied::nothing(),
        unsourced: Vec::new(),
        lost: Vec::new(),
    };
    while let Some((target, (result, lost))) = copies.next().await {
        for lost in lost {
            if !healed
                .lost
                .iter()
                .any(|known| known.repository == lost.repository)
            {
                healed.lost.push(lost);
            }
        }
        match result {
            Err(error @ CopyError::Source(_)) => healed.unsourced.push((target, error)),
            result => {
                let name = target.name().clone();
                healed.copied.add(archiver, claim, name, result);
            }
        }
    }
    healed
}

/// The facts of one claim.
struct Healing<'a> {
    archiver: &'a Archiver,
    claim: &'a Claim,
    lease: &'a Lease,
    owner: &'a Owner,
    key: &'a ObjectKey,
}

impl Healing<'_> {
    /// One copy, from the first repository that really holds it, and which do not.
    async fn one(&self, target: &Target) -> (Result<Verified, CopyError>, Vec<Lost>) {
        let whole_limit = self.archiver.0.settings.whole_limit;
        let sources: Vec<(&Target, u64)> = self
            .claim
            .copies
            .iter()
            .filter(|copy| copy.state == CopyState::Verified)
            .filter_map(|copy| {
                let from = self.archiver.target(&copy.repository)?;
                Some((from, copy.stored_size.unwrap_or(whole_limit)))
            })
            .filter(|(from, _)| from.up())
            .collect();
        // Nothing is read before there is room for it.
        let room = sources
            .iter()
            .map(|(_, size)| if *size > whole_limit { ROOM } else { *size })
            .max()
            .unwrap_or(0);
        let _place = self.archiver.0.lanes.enter(target.name(), room).await;
        let _memory = self.archiver.0.lanes.reserve(room).await;
        let mut lost = Vec::new();
        match self.adopted(target).await {
            Ok(Some(verified)) => return (Ok(verified), self.vanished(&sources).await),
            Ok(None) => {}
            Err(error) => return (Err(error), lost),
        }
        let mut outcome = Err(source(SourceError::None));
        for (from, size) in sources {
            outcome = self.from(from, size, target).await;
            let Err(CopyError::Source(error)) = &outcome else {
                break;
            };
            if let Some(repository) = error.lost() {
                lost.push(self.lost(repository, error));
            }
        }
        (outcome, lost)
    }

    /// Verified copies that are not there. Asked when the target needs no source: a crash after
    /// an earlier attempt's PUT has forgotten what that attempt had seen of its sources.
    async fn vanished(&self, sources: &[(&Target, u64)]) -> Vec<Lost> {
        let mut lost = Vec::new();
        for (from, _) in sources {
            if let Ok(None) = from.store.head(self.key).await {
                let error = SourceError::Missing {
                    repository: from.name().clone(),
                    key: self.key.clone(),
                };
                lost.push(self.lost(from.name(), &error));
            }
        }
        lost
    }

    /// Told loudly, and due again once the content is verified elsewhere.
    fn lost(&self, repository: &RepositoryName, error: &SourceError) -> Lost {
        tracing::error!(
            segment.name = %self.claim.file,
            repository.name = %repository,
            error = error as &dyn std::error::Error,
            "a copy that was verified is missing or damaged"
        );
        Lost {
            repository: repository.clone(),
            cause: error.cause(),
            reason: chain(error),
        }
    }

    /// What lies under the key already is never overwritten, and multipart uploads cannot be
    /// conditional everywhere: look first. Between the look and the last part only this
    /// claim writes, and only this content.
    async fn adopted(&self, target: &Target) -> Result<Option<Verified>, CopyError> {
        let store = target.store.as_ref();
        self.archiver
            .0
            .owners
            .ensure(store, &self.claim.prefix.key_prefix, self.owner)
            .await?;
        if store.head(self.key).await?.is_none() {
            return Ok(None);
        }
        let (sha256, plain_size) = self.content()?;
        let (stored_size, stored_md5) = self
            .claim
            .packed
            .map_or((0, Md5::from_bytes([0; 16])), |packed| {
                (packed.size, packed.md5)
            });
        let expected = Expected {
            sha256,
            plain_size,
            stored_size,
            stored_md5,
            etag: ExpectedEtag::Single(stored_md5),
        };
        let metadata = self.metadata(sha256, plain_size, chrono::Utc::now());
        let verified = self.upload(&metadata).adopt(store, &expected).await?;
        Ok(Some(verified))
    }

    async fn from(&self, from: &Target, size: u64, target: &Target) -> Result<Verified, CopyError> {
        let (expected, plain_size) = self.content()?;
        let copy = Copy {
            pool: &self.archiver.0.pool,
            from: from.name(),
            key: self.key,
            expected,
        };
        let object = match from.store.get(self.key).await {
            Ok(Some(object)) => object,
            Ok(None) => {
                return Err(source(SourceError::Missing {
                    repository: from.name().clone(),
                    key: self.key.clone(),
                }));
            }
            Err(error) => return Err(source(copy.unreadable(UnpackError::Store(error)))),
        };
        if object.facts.size != size {
            return Err(source(SourceError::Replaced {
                repository: from.name().clone(),
                key: self.key.clone(),
                expected: size,
                found: object.facts.size,
            }));
        }
        // An object of the old system says nothing about itself; its copy does.
        let metadata = ObjectMetadata::from_map(&object.facts.metadata)
            .unwrap_or_else(|_| self.metadata(expected, plain_size, object.facts.last_modified));
        let upload = self.upload(&metadata);
        let limit = self.archiver.0.settings.whole_limit;
        if size > limit {
            copy.streamed(&upload, target.store.as_ref(), object).await
        } else {
            copy.whole(&upload, target.store.as_ref(), object, limit)
                .await
        }
    }

    fn content(&self) -> Result<(Sha256, u64), CopyError> {
        self.claim
            .sha256
            .zip(self.claim.size)
            .ok_or_else(|| source(SourceError::None))
    }

    /// What the catalog knows of an object that was not made by us.
    fn metadata(
        &self,
        sha256: Sha256,
        size: u64,
        last_modified: chrono::DateTime<chrono::Utc>,
    ) -> ObjectMetadata {
        let encoder = self.claim.encoder.as_ref();
        ObjectMetadata {
            sha256,
            size,
            cluster: self.owner.cluster.clone(),
            system_id: self.owner.system_id,
            encoder: encoder.map_or("unknown".to_owned(), |encoder| encoder.name.clone()),
            level: encoder.map_or(0, |encoder| encoder.level),
            mtime: self.claim.mtime.unwrap_or(last_modified),
        }
    }

    fn upload<'s>(&'s self, metadata: &'s ObjectMetadata) -> Upload<'s> {
        Upload {
            pool: &self.archiver.0.pool,
            foreign: &self.archiver.0.foreign,
            lease: self.lease,
            key: self.key,
            metadata,
            mode: self.archiver.0.settings.verify,
        }
    }
}

struct Copy<'a> {
    pool: &'a PackPool,
    from: &'a RepositoryName,
    key: &'a ObjectKey,
    expected: Sha256,
}

impl Copy<'_> {
    async fn whole(
        &self,
        upload: &Upload<'_>,
        to: &dyn Repository,
        object: ObjectStream,
        limit: u64,
    ) -> Result<Verified, CopyError> {
        let body = unpack::collect(object.body, limit)
            .await
            .map_err(|error| source(self.unreadable(error)))?;
        let contents = unpack::contents(self.pool, stream::iter([Ok(body.clone())]))
            .await
            .map_err(|error| source(self.unreadable(error)))?;
        self.check(&contents).map_err(source)?;
        kill_point!("heal.read.after");
        let packed = Packed {
            body,
            md5: contents.stored_md5,
        };
        let expected = expected(&contents, ExpectedEtag::Single(contents.stored_md5));
        let verified = upload.packed(to, &packed, &expected).await?;
        kill_point!("heal.prove.after");
        Ok(verified)
    }

    /// Bounded memory for an object of any size: parts go out while the next is read, and
    /// the last one only when the whole object has proven to be the right one.
    async fn streamed(
        &self,
        upload: &Upload<'_>,
        to: &dyn Repository,
        object: ObjectStream,
    ) -> Result<Verified, CopyError> {
        upload.lease.check().await?;
        kill_point!("heal-stream.put.before");
        let (tell, told) = oneshot::channel();
        let checking = Checking {
            copy: self,
            to: to.name(),
            body: object.body,
            unpacker: Some(Unpacker::new()),
            held: None,
            tell: Some(tell),
        };
        let parts = stream::unfold(checking, Checking::next).boxed();
        let put = to
            .put_parts(self.key, parts, &upload.metadata.to_map())
            .await;
        // What was wrong with the source says more than that the upload was abandoned for
        // it. Nothing is told when the upload failed on its own.
        let contents = told.await.ok().transpose().map_err(source)?;
        let etag = put?;
        kill_point!("heal-stream.put.after");
        let contents = contents.ok_or_else(|| source(SourceError::None))?;
        upload
            .prove(
                to,
                &expected(&contents, ExpectedEtag::Multipart { etag }),
                None,
            )
            .await
    }

    fn check(&self, contents: &Contents) -> Result<(), SourceError> {
        if contents.plain_sha256 == self.expected {
            return Ok(());
        }
        Err(SourceError::Damaged {
            repository: self.from.clone(),
            key: self.key.clone(),
            expected: self.expected,
            found: contents.plain_sha256,
        })
    }

    fn unreadable(&self, error: UnpackError) -> SourceError {
        SourceError::Unpack {
            repository: self.from.clone(),
            key: self.key.clone(),
            source: error,
        }
    }
}

/// An object on its way from one cloud to another. Passes its chunks on, and holds back the
/// last one until the hash of all is known.
struct Checking<'a> {
    copy: &'a Copy<'a>,
    to: &'a RepositoryName,
    body: BoxStream<'static, Result<Bytes, StoreError>>,
    unpacker: Option<Unpacker>,
    held: Option<Bytes>,
    /// Gone once it was told how the object ended.
    tell: Option<oneshot::Sender<Result<Contents, SourceError>>>,
}

impl Checking<'_> {
    async fn next(mut self) -> Option<(Result<Bytes, StoreError>, Self)> {
        self.tell.as_ref()?;
        loop {
            let out = match self.body.next().await {
                Some(Ok(chunk)) => self.feed(chunk).await,
                Some(Err(error)) => Err(self.copy.unreadable(UnpackError::Store(error))),
                None => self.end().await.map(Some),
            };
            match out {
                Ok(Some(out)) => return Some((Ok(out), self)),
                Ok(None) => {}
                Err(error) => {
                    let abandoned = StoreError::Upload {
                        at: At::new(self.to, "put", Some(self.copy.key)),
                        source: "the copy to be handed on could not be used".into(),
                    };
                    self.tell(Err(error));
                    return Some((Err(abandoned), self));
                }
            }
        }
    }

    /// Takes one chunk and gives the one before.
    async fn feed(&mut self, chunk: Bytes) -> Result<Option<Bytes>, SourceError> {
        let unpacker = self.unpacker.take().unwrap_or_default();
        let feed = chunk.clone();
        let fed = self.copy.pool.run(move |_| unpacker.feed(&feed)).await;
        let fed = fed
            .map_err(UnpackError::Pool)
            .and_then(|fed| fed.map_err(UnpackError::Damaged));
        self.unpacker = Some(fed.map_err(|error| self.copy.unreadable(error))?);
        Ok(self.held.replace(chunk))
    }

    /// The last chunk, if all of them are the file.
    async fn end(&mut self) -> Result<Bytes, SourceError> {
        let unpacker = self.unpacker.take().unwrap_or_default();
        let finished = self.copy.pool.run(move |_| unpacker.finish()).await;
        let contents = finished
            .map_err(UnpackError::Pool)
            .and_then(|contents| contents.map_err(UnpackError::Damaged))
            .map_err(|error| self.copy.unreadable(error))?;
        self.copy.check(&contents)?;
        self.tell(Ok(contents));
        Ok(self.held.take().unwrap_or_default())
    }

    fn tell(&mut self, outcome: Result<Contents, SourceError>) {
        if let Some(tell) = self.tell.take() {
            // Nobody listens any more when the healing was cancelled.
            let _ = tell.send(outcome);
        }
    }
}

fn expected(contents: &Contents, etag: ExpectedEtag) -> Expected {
    Expected {
        sha256: contents.plain_sha256,
        plain_size: contents.plain_size,
        stored_size: contents.stored_size,
        stored_md5: contents.stored_md5,
        etag,
    }
}

fn source(error: SourceError) -> CopyError {
    CopyError::Source(Box::new(error))
}
