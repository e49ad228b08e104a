//! A missing copy from the cloud that has one: no segment is read or packed twice.
//!
//! The object is unpacked and its hash compared on the way, so a damaged copy is never
//! handed on: the upload is abandoned before its last byte is sent.

use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream, FuturesUnordered},
};
use walferry_catalog::claims::{Claim, CopyState};
use walferry_layout::metadata::ObjectMetadata;
use walferry_proof::{Expected, ExpectedEtag, ObjectKey, RepositoryName, Sha256, Verified};
use walferry_store::{At, ObjectStream, ReadRepository as _, Repository, StoreError};

use crate::{
    archiver::{Archiver, Target},
    leases::Lease,
    owner::Owner,
    pack::Packed,
    pool::PackPool,
    process::Copied,
    unpack::{self, Contents, UnpackError, Unpacker},
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
        repository: String,
        /// Which object.
        key: ObjectKey,
    },
    /// It is not the file that was verified.
    #[error(
        "`{key}` in `{repository}` unpacks to {found}, the catalog says {expected}: the copy is damaged and was not handed on"
    )]
    Damaged {
        /// Where.
        repository: String,
        /// Which object.
        key: ObjectKey,
        /// What the catalog says.
        expected: Sha256,
        /// What it unpacks to.
        found: Sha256,
    },
    /// It does not unpack at all.
    #[error("read the copy in the other cloud")]
    Unpack(#[source] UnpackError),
}

/// Makes every copy that is due out of one that is verified, side by side.
pub(crate) async fn from_another(
    archiver: &Archiver,
    claim: &Claim,
    lease: &Lease,
    owner: &Owner,
    key: &ObjectKey,
    due: &[Target],
) -> Copied {
    let mut copies: FuturesUnordered<_> = due
        .iter()
        .map(|target| async move {
            let result = one(archiver, claim, lease, owner, key, target).await;
            (target.name().clone(), result)
        })
        .collect();
    let mut copied = Copied::nothing();
    while let Some((name, result)) = copies.next().await {
        copied.add(archiver, claim, name, result);
    }
    copied
}

async fn one(
    archiver: &Archiver,
    claim: &Claim,
    lease: &Lease,
    owner: &Owner,
    key: &ObjectKey,
    target: &Target,
) -> Result<Verified, CopyError> {
    let expected = claim.sha256.ok_or_else(|| source(SourceError::None))?;
    // Nothing is read before there is room for it.
    let size = claim.packed.as_ref().map_or(0, |packed| packed.size);
    let whole = size.min(archiver.0.settings.whole_limit);
    let _place = archiver.0.lanes.enter(target.name(), whole).await;
    let _memory = archiver.0.lanes.reserve(whole).await;
    let from = claim
        .copies
        .iter()
        .filter(|copy| copy.state == CopyState::Verified)
        .filter_map(|copy| archiver.target(&copy.repository))
        .find(|from| from.up())
        .ok_or_else(|| source(SourceError::None))?;
    archiver
        .0
        .owners
        .ensure(target.store.as_ref(), &claim.prefix.key_prefix, owner)
        .await?;
    // A cloud that is down again says so before a whole object was downloaded for it.
    target.store.head(key).await?;
    let object = from.store.get(key).await?.ok_or_else(|| {
        source(SourceError::Missing {
            repository: from.name().to_string(),
            key: key.clone(),
        })
    })?;
    let metadata = ObjectMetadata::from_map(&object.facts.metadata)
        .map_err(|error| CopyError::Source(Box::new(error)))?;
    let upload = Upload {
        pool: &archiver.0.pool,
        lease,
        key,
        metadata: &metadata,
        mode: archiver.0.settings.verify,
    };
    let copy = Copy {
        pool: &archiver.0.pool,
        from: from.name().to_string(),
        key,
        expected,
    };
    if object.facts.size > archiver.0.settings.whole_limit {
        copy.streamed(&upload, target.store.as_ref(), object).await
    } else {
        copy.whole(
            &upload,
            target.store.as_ref(),
            object,
            archiver.0.settings.whole_limit,
        )
        .await
    }
}

struct Copy<'a> {
    pool: &'a PackPool,
    from: String,
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
            .map_err(|error| source(SourceError::Unpack(error)))?;
        let contents = unpack::contents(self.pool, stream::iter([Ok(body.clone())]))
            .await
            .map_err(|error| source(SourceError::Unpack(error)))?;
        self.check(&contents)?;
        let packed = Packed {
            body,
            md5: contents.stored_md5,
        };
        let expected = expected(&contents, ExpectedEtag::Single(contents.stored_md5));
        upload.packed(to, &packed, &expected).await
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
        let (done, contents) = tokio::sync::oneshot::channel();
        let checked = self.checked(to.name(), object.body, done);
        let etag = to
            .put_parts(self.key, checked, &upload.metadata.to_map())
            .await?;
        let contents = contents
            .await
            .map_err(|_| source(SourceError::None))?
            .map_err(source)?;
        upload
            .prove(to, &expected(&contents, ExpectedEtag::Multipart { etag }))
            .await
    }

    /// Passes `body` on and holds back its last chunk until the hash of all is known.
    fn checked<'s>(
        &'s self,
        to: &'s RepositoryName,
        body: BoxStream<'static, Result<Bytes, StoreError>>,
        done: tokio::sync::oneshot::Sender<Result<Contents, SourceError>>,
    ) -> BoxStream<'s, Result<Bytes, StoreError>> {
        let state = (body, Some(Unpacker::new()), None::<Bytes>, Some(done));
        stream::unfold(
            state,
            move |(mut body, mut unpacker, mut held, mut done)| async move {
                loop {
                    match body.next().await {
                        Some(Ok(chunk)) => {
                            let taken = unpacker.take()?;
                            let feed = chunk.clone();
                            match self.pool.run(move |_| taken.feed(&feed)).await {
                                Ok(Ok(next)) => unpacker = Some(next),
                                _ => {
                                    return Some((
                                        Err(self.abandon(to, "it does not unpack")),
                                        (body, None, None, None),
                                    ));
                                }
                            }
                            if let Some(out) = held.replace(chunk) {
                                return Some((Ok(out), (body, unpacker, held, done)));
                            }
                        }
                        Some(Err(error)) => return Some((Err(error), (body, None, None, None))),
                        None => {
                            let last = held.take()?;
                            let contents = unpacker.take()?.finish();
                            let right = contents
                                .as_ref()
                                .is_ok_and(|found| found.plain_sha256 == self.expected);
                            let Ok(contents) = contents else {
                                return Some((
                                    Err(self.abandon(to, "it does not unpack")),
                                    (body, None, None, None),
                                ));
                            };
                            if !right {
                                return Some((
                                    Err(self.abandon(to, "it unpacks to another content")),
                                    (body, None, None, None),
                                ));
                            }
                            if let Some(done) = done.take() {
                                let _ = done.send(Ok(contents));
                            }
                            return Some((Ok(last), (body, None, None, None)));
                        }
                    }
                }
            },
        )
        .boxed()
    }

    fn abandon(&self, to: &RepositoryName, reason: &str) -> StoreError {
        StoreError::Upload {
            at: At::new(to, "put", Some(self.key)),
            source: format!("the copy in `{}` is damaged: {reason}", self.from).into(),
        }
    }

    fn check(&self, contents: &Contents) -> Result<(), CopyError> {
        if contents.plain_sha256 == self.expected {
            return Ok(());
        }
        Err(source(SourceError::Damaged {
            repository: self.from.clone(),
            key: self.key.clone(),
            expected: self.expected,
            found: contents.plain_sha256,
        }))
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
