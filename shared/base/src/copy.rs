//! Bringing a base from one repository to another.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use walferry_killpoint::kill_point;
use walferry_layout::base::{BaseLabel, BaseObject, BegunBase, CompleteBase, Slice};
use walferry_layout::metadata::{SHA256, SIZE};
use walferry_pack::pool::PackPool;
use walferry_pack::unpack;
use walferry_proof::{Expected, ExpectedEtag, KeyPrefix, ObjectKey, RepositoryName};
use walferry_store::{Metadata, ReadRepository, Repository};

use crate::begun::Claim;
use crate::check::{self, Fault};
use crate::packing::expected;
use crate::settings::Patience;
use crate::small;
use crate::upload::{Object, UploadError, again, store, verify};

/// The packed manifest of a base is some 50 bytes for each file of the database.
const LARGEST_MANIFEST: u64 = 1 << 30;

/// How a base is copied.
#[derive(Clone)]
pub struct CopySettings {
    /// Where what was read is hashed.
    pub pool: PackPool,
    /// Slices on their way at once, at least one. So many are in memory, packed.
    pub transfers: usize,
    /// The copy ends with an error when nothing was finished for so long.
    pub stall: Duration,
    pub patience: Patience,
}

/// What a copy had to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Slices that were brought over.
    pub slices: u64,
    /// Bytes of these, packed.
    pub stored_size: u64,
    /// Slices that were there already, from the time when the base was taken or from a copy
    /// that was interrupted.
    pub found: u64,
}

/// A base could not be copied. What was brought over is left there and used the next time.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Reading from one or storing in the other failed; the cause says which.
    #[error("copy the base backup to `{to}`")]
    Transfer {
        to: RepositoryName,
        #[source]
        source: Box<UploadError>,
    },
    #[error("`{key}` is not in `{repository}`, from where it was to be copied")]
    Missing {
        repository: RepositoryName,
        key: ObjectKey,
    },
    #[error("`{key}` in `{repository}` is damaged and was not copied")]
    Damaged {
        repository: RepositoryName,
        key: ObjectKey,
    },
    /// Another base lies there.
    #[error(
        "`{repository}` holds another base backup under the label {label}, which was not overwritten"
    )]
    LabelTaken {
        repository: RepositoryName,
        label: BaseLabel,
    },
    #[error("{count} objects in `{repository}` are not as they were stored, first: {first}")]
    Faults {
        repository: RepositoryName,
        count: usize,
        first: Box<Fault>,
    },
    #[error("nothing was copied to `{repository}` for {} s", .stall.as_secs_f64())]
    Stalled {
        repository: RepositoryName,
        stall: Duration,
    },
    #[error(transparent)]
    Pool(#[from] walferry_pack::pool::PoolGone),
    #[error("copying the base backup was cancelled")]
    Cancelled,
}

/// Copies `base`, as its `backup.json` in `from` describes it, to `to`: object by object, each
/// read, compared with what `backup.json` says and stored; `keep.json` if it has one; and
/// `backup.json` last, when everything was verified there. What is there already is not copied
/// again, so an interrupted copy is repeated cheaply, and a base that is complete there costs
/// one GET.
///
/// # Errors
/// [`CopyError`]: the base is not complete in `to`, unless the answer to the last PUT was lost.
/// Doing it again is harmless.
pub async fn copy(
    base: &CompleteBase,
    prefix: &KeyPrefix,
    from: &dyn ReadRepository,
    to: &dyn Repository,
    settings: &CopySettings,
    cancel: &CancellationToken,
) -> Result<Copied, CopyError> {
    let begun = BegunBase {
        format: base.format,
        label: base.label,
        cluster: base.cluster.clone(),
        system_id: base.system_id,
        started_at: base.started_at,
    };
    let job = CopyJob {
        base,
        claim: Claim::new(prefix, begun),
        from,
        to,
        settings,
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(CopyError::Cancelled),
        copied = job.run() => copied,
    }
}

struct CopyJob<'c> {
    base: &'c CompleteBase,
    claim: Claim,
    from: &'c dyn ReadRepository,
    to: &'c dyn Repository,
    settings: &'c CopySettings,
}

impl CopyJob<'_> {
    async fn run(&self) -> Result<Copied, CopyError> {
        if self.within(self.complete()).await? {
            return Ok(Copied::default());
        }
        self.within(self.stake()).await?;
        let mut copied = Copied::default();
        let mut slices = self.base.slices.iter();
        let mut transfers = FuturesUnordered::new();
        loop {
            while transfers.len() < self.settings.transfers.max(1)
                && let Some(slice) = slices.next()
            {
                transfers.push(self.slice(slice));
            }
            let done = async { transfers.next().await.transpose() };
            match self.within(done).await? {
                Some(Some(stored)) => {
                    copied.slices += 1;
                    copied.stored_size += stored;
                }
                Some(None) => copied.found += 1,
                None => break,
            }
        }
        self.within(self.manifest()).await?;
        self.within(self.keep()).await?;
        self.within(self.seal()).await?;
        Ok(copied)
    }

    /// Whether it is there already.
    async fn complete(&self) -> Result<bool, CopyError> {
        let key = self.claim.key(&BaseObject::Complete);
        let found = small::read(self.to, &key)
            .await
            .map_err(|e| self.transfer(e))?;
        match found {
            None => Ok(false),
            Some(bytes) if CompleteBase::parse(&bytes).is_ok_and(|found| found == *self.base) => {
                Ok(true)
            }
            Some(_) => Err(self.taken()),
        }
    }

    async fn stake(&self) -> Result<(), CopyError> {
        let staked = self.claim.stake(self.to, self.settings.patience).await;
        match staked.map_err(|e| self.transfer(e))? {
            true => Ok(()),
            false => Err(self.taken()),
        }
    }

    /// The stored size; `None` if it was there already.
    async fn slice(&self, slice: &Slice) -> Result<Option<u64>, CopyError> {
        let key = self
            .claim
            .key(&BaseObject::Slice(slice.archive, slice.number));
        let expected = expected(slice);
        if self.holds(&key, &expected).await? {
            return Ok(None);
        }
        let (body, metadata) = self.read(&key, slice.stored_size).await?;
        let (size, copy) = (body.len() as u64, body.clone());
        let md5 = self.settings.pool.run(move |_| walferry_proof::md5(&copy));
        if size != slice.stored_size || md5.await? != slice.stored_md5 {
            return Err(self.damaged(&key));
        }
        self.store(&key, &body, metadata, &expected).await?;
        Ok(Some(size))
    }

    /// `backup.json` says what the manifest unpacks to, not how it is packed.
    async fn manifest(&self) -> Result<(), CopyError> {
        let key = self.claim.key(&BaseObject::Manifest);
        let (body, metadata) = self.read(&key, LARGEST_MANIFEST).await?;
        let stream = futures::stream::iter([Ok(body.clone())]);
        let contents = match unpack::contents(&self.settings.pool, stream).await {
            Ok(contents) if contents.plain_sha256 == self.base.manifest_sha256 => contents,
            Err(unpack::UnpackError::Pool(gone)) => return Err(gone.into()),
            _ => return Err(self.damaged(&key)),
        };
        let expected = Expected {
            sha256: contents.plain_sha256,
            plain_size: contents.plain_size,
            stored_size: contents.stored_size,
            stored_md5: contents.stored_md5,
            etag: ExpectedEtag::Single(contents.stored_md5),
        };
        if self.holds(&key, &expected).await? {
            return Ok(());
        }
        self.store(&key, &body, metadata, &expected).await
    }

    /// A base that is to be kept is never complete without its mark.
    async fn keep(&self) -> Result<(), CopyError> {
        let key = self.claim.key(&BaseObject::Keep);
        let mark = small::read(self.from, &key)
            .await
            .map_err(|e| self.transfer(e))?;
        let Some(mark) = mark else { return Ok(()) };
        kill_point!("base-copy.keep-put.before");
        small::replace(self.to, &key, &mark)
            .await
            .map_err(|e| self.transfer(e))?;
        kill_point!("base-copy.keep-put.after");
        Ok(())
    }

    /// Another look at everything, and `backup.json`.
    async fn seal(&self) -> Result<(), CopyError> {
        let patience = self.settings.patience;
        let faults = again(patience, || async {
            check::slices(self.base, &self.claim.prefix, self.to, &self.settings.pool).await
        });
        let mut faults = faults.await.map_err(|e| self.transfer(e))?;
        if !faults.is_empty() {
            return Err(CopyError::Faults {
                repository: self.to.name().clone(),
                count: faults.len(),
                first: Box::new(faults.swap_remove(0)),
            });
        }
        let held = again(patience, || self.claim.holds(self.to));
        if !held.await.map_err(|e| self.transfer(e))? {
            return Err(self.taken());
        }
        let key = self.claim.key(&BaseObject::Complete);
        let json = Bytes::from(self.base.to_json());
        let created = again(patience, || async {
            // A crash before leaves a base that has begun, one after it a complete one.
            kill_point!("base-copy.complete-put.before");
            let created = small::create(self.to, &key, &json).await;
            kill_point!("base-copy.complete-put.after");
            created
        });
        match created.await.map_err(|e| self.transfer(e))? {
            true => Ok(()),
            false => Err(self.taken()),
        }
    }

    async fn holds(&self, key: &ObjectKey, expected: &Expected) -> Result<bool, CopyError> {
        match verify(self.to, key, expected, &self.settings.pool).await {
            Ok(_) => Ok(true),
            Err(UploadError::Store(error)) => Err(self.transfer(error.into())),
            // Not there, or not what it should be: it is stored again.
            Err(_) => Ok(false),
        }
    }

    async fn read(&self, key: &ObjectKey, limit: u64) -> Result<(Bytes, Metadata), CopyError> {
        let read = again(self.settings.patience, || async {
            let Some(object) = self.from.get(key).await? else {
                return Ok(None);
            };
            match unpack::collect(object.body, limit).await {
                Ok(body) => Ok(Some((body, object.facts.metadata))),
                Err(unpack::UnpackError::Store(error)) => Err(error.into()),
                Err(source) => Err(UploadError::ReadBack {
                    repository: self.from.name().clone(),
                    key: key.clone(),
                    source,
                }),
            }
        });
        match read.await {
            Ok(Some(read)) => Ok(read),
            Ok(None) => Err(CopyError::Missing {
                repository: self.from.name().clone(),
                key: key.clone(),
            }),
            // It has more bytes than it should.
            Err(UploadError::ReadBack { .. }) => Err(self.damaged(key)),
            Err(error) => Err(self.transfer(error)),
        }
    }

    async fn store(
        &self,
        key: &ObjectKey,
        body: &Bytes,
        mut metadata: Metadata,
        expected: &Expected,
    ) -> Result<(), CopyError> {
        // The two that follow from `backup.json`, whatever became of them there.
        metadata.insert(SHA256.to_owned(), expected.sha256.to_string());
        metadata.insert(SIZE.to_owned(), expected.plain_size.to_string());
        let object = Object {
            key,
            body,
            metadata: &metadata,
            expected,
        };
        let settings = self.settings;
        let stored = store(self.to, &object, &settings.pool, settings.patience);
        let verified = stored.await.map_err(|e| self.transfer(e))?;
        debug_assert_eq!(verified.sha256(), expected.sha256);
        Ok(())
    }

    async fn within<T>(
        &self,
        step: impl Future<Output = Result<T, CopyError>>,
    ) -> Result<T, CopyError> {
        let stall = self.settings.stall;
        timeout(stall, step).await.unwrap_or_else(|_| {
            Err(CopyError::Stalled {
                repository: self.to.name().clone(),
                stall,
            })
        })
    }

    fn transfer(&self, source: UploadError) -> CopyError {
        CopyError::Transfer {
            to: self.to.name().clone(),
            source: Box::new(source),
        }
    }

    fn taken(&self) -> CopyError {
        CopyError::LabelTaken {
            repository: self.to.name().clone(),
            label: self.base.label,
        }
    }

    fn damaged(&self, key: &ObjectKey) -> CopyError {
        CopyError::Damaged {
            repository: self.from.name().clone(),
            key: key.clone(),
        }
    }
}
