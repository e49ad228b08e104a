//! One repository's share of a base: uploads side by side, and `backup.json` at the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use walferry_killpoint::kill_point;
use walferry_layout::base::{BaseObject, CompleteBase};
use walferry_layout::metadata::ObjectMetadata;
use walferry_pack::pack::ENCODER;
use walferry_proof::Expected;
use walferry_store::{Metadata, Repository};
use walferry_wal::SystemId;

use crate::begun::Claim;
use crate::check::{self, Fault};
use crate::packing::{Packed, PackedManifest, expected};
use crate::progress::{Progress, RepositoryState};
use crate::settings::TakeSettings;
use crate::small;
use crate::upload::{Object, UploadError, again, store};

/// What is on its way when a repository is given up may arrive for so long, so that it is there to be
/// removed and does not arrive afterwards.
const LAST_ARRIVALS: Duration = Duration::from_secs(5);

/// Why a repository has no part in a base. It may get it later from another one, by `copy`.
#[derive(Debug, thiserror::Error)]
pub enum DropReason {
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error("it finished nothing for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// Two bases began in the same second, in a store that cannot say so.
    #[error("the label was taken by somebody else")]
    LabelLost,
    /// Somebody deleted or overwrote objects that had been verified.
    #[error("{count} of its objects are not as they were, first: {first}")]
    Faults { count: usize, first: Box<Fault> },
    #[error("it was cancelled")]
    Cancelled,
    /// A defect.
    #[error("its task panicked")]
    Panicked,
}

/// What a lane is told, in this order.
pub(crate) enum Message {
    Slice(Arc<Packed>),
    /// There are no more slices.
    Finish(Arc<Finish>),
}

/// What makes a base complete.
pub(crate) struct Finish {
    pub(crate) base: CompleteBase,
    /// `backup.json`.
    pub(crate) json: Bytes,
    pub(crate) manifest: PackedManifest,
}

/// What every object of the base says about itself.
#[derive(Clone)]
pub(crate) struct Describe {
    pub(crate) cluster: String,
    pub(crate) system_id: SystemId,
    pub(crate) level: u8,
    pub(crate) started_at: DateTime<Utc>,
}

pub(crate) struct Lane {
    pub(crate) repository: Arc<dyn Repository>,
    /// In the list of `Progress`.
    pub(crate) index: usize,
    pub(crate) claim: Claim,
    pub(crate) describe: Describe,
    pub(crate) settings: TakeSettings,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) stop: CancellationToken,
}

pub(crate) struct LaneEnd {
    pub(crate) outcome: Result<(), DropReason>,
    /// `backup.json` may be there: nothing must be removed, or a base that looks complete would
    /// lack its objects.
    pub(crate) sealed: bool,
}

impl Lane {
    /// Runs until the base is complete there, or the repository is dropped; what waited for it
    /// in memory is then given back.
    pub(crate) async fn run(self, mut messages: mpsc::UnboundedReceiver<Message>) -> LaneEnd {
        let mut sealed = false;
        let outcome = match self.slices(&mut messages).await {
            Ok(finish) => self.finish(&finish, &mut sealed).await,
            Err(reason) => Err(reason),
        };
        let state = match &outcome {
            Ok(()) => RepositoryState::Complete,
            Err(_) => RepositoryState::Dropped,
        };
        self.progress.send_modify(|progress| {
            progress.repositories[self.index].state = state;
        });
        LaneEnd { outcome, sealed }
    }

    async fn slices(
        &self,
        messages: &mut mpsc::UnboundedReceiver<Message>,
    ) -> Result<Arc<Finish>, DropReason> {
        let stall = self.settings.stall;
        let mut uploads = FuturesUnordered::new();
        let mut finish = None;
        // Since the last slice was finished, or since there was nothing to do.
        let mut deadline = Instant::now() + stall;
        let reason = loop {
            if uploads.is_empty()
                && let Some(finish) = finish.take()
            {
                return Ok(finish);
            }
            let room = finish.is_none() && uploads.len() < self.settings.uploads.max(1);
            tokio::select! {
                () = self.stop.cancelled() => break DropReason::Cancelled,
                Some(stored) = uploads.next(), if !uploads.is_empty() => {
                    if let Err(error) = stored {
                        break DropReason::Upload(error);
                    }
                    deadline = Instant::now() + stall;
                }
                message = messages.recv(), if room => match message {
                    Some(Message::Slice(packed)) => {
                        if uploads.is_empty() {
                            deadline = Instant::now() + stall;
                        }
                        uploads.push(self.upload(packed));
                    }
                    Some(Message::Finish(last)) => finish = Some(last),
                    None => break DropReason::Cancelled,
                },
                () = sleep_until(deadline), if !uploads.is_empty() => {
                    return Err(DropReason::Stalled(stall));
                }
            }
        };
        // Whether they succeed does not matter any more.
        let _ = timeout(
            LAST_ARRIVALS.min(stall),
            uploads.for_each(|_| std::future::ready(())),
        )
        .await;
        Err(reason)
    }

    async fn upload(&self, packed: Arc<Packed>) -> Result<(), UploadError> {
        let slice = &packed.slice;
        let object = BaseObject::Slice(slice.archive, slice.number);
        self.store(&object, &packed.body, &expected(slice)).await?;
        self.progress.send_modify(|progress| {
            let repository = &mut progress.repositories[self.index];
            repository.slices += 1;
            repository.stored += packed.slice.stored_size;
        });
        Ok(())
    }

    async fn store(
        &self,
        object: &BaseObject,
        body: &Bytes,
        expected: &Expected,
    ) -> Result<(), UploadError> {
        let object = Object {
            key: &self.claim.key(object),
            body,
            metadata: &self.describe.metadata(expected),
            expected,
        };
        let settings = &self.settings;
        let stored = store(
            &*self.repository,
            &object,
            &settings.pool,
            settings.patience,
        );
        let verified = stored.await?;
        debug_assert_eq!(verified.sha256(), expected.sha256);
        Ok(())
    }

    /// The manifest, another look at everything, and `backup.json`.
    async fn finish(&self, finish: &Finish, sealed: &mut bool) -> Result<(), DropReason> {
        let manifest = &finish.manifest;
        let stored = self.store(&BaseObject::Manifest, &manifest.body, &manifest.expected);
        self.within(stored).await?;
        // Hours may have passed since the first slice was verified, and whoever takes this base
        // for abandoned removes it.
        let patience = self.settings.patience;
        let faults = again(patience, || async {
            check::slices(
                &finish.base,
                &self.claim.prefix,
                &*self.repository,
                &self.settings.pool,
            )
            .await
        });
        let mut faults = self.within(faults).await?;
        if !faults.is_empty() {
            return Err(DropReason::Faults {
                count: faults.len(),
                first: Box::new(faults.swap_remove(0)),
            });
        }
        let held = again(patience, async || self.claim.holds(&*self.repository).await);
        if !self.within(held).await? {
            return Err(DropReason::LabelLost);
        }
        // From here on not to be cancelled: whether it was written should be known.
        *sealed = true;
        let key = self.claim.key(&BaseObject::Complete);
        let created = again(patience, || async {
            // A crash before leaves a base that has begun, one after it a complete one.
            kill_point!("base.complete-put.before");
            let created = small::create(&*self.repository, &key, &finish.json).await;
            kill_point!("base.complete-put.after");
            created
        });
        match timeout(self.settings.stall, created).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(DropReason::LabelLost),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(DropReason::Stalled(self.settings.stall)),
        }
    }

    async fn within<T>(
        &self,
        step: impl Future<Output = Result<T, UploadError>>,
    ) -> Result<T, DropReason> {
        tokio::select! {
            () = self.stop.cancelled() => Err(DropReason::Cancelled),
            done = timeout(self.settings.stall, step) => match done {
                Ok(done) => Ok(done?),
                Err(_) => Err(DropReason::Stalled(self.settings.stall)),
            },
        }
    }
}

impl Describe {
    fn metadata(&self, expected: &Expected) -> Metadata {
        ObjectMetadata {
            sha256: expected.sha256,
            size: expected.plain_size,
            cluster: self.cluster.clone(),
            system_id: self.system_id,
            encoder: ENCODER.to_owned(),
            level: self.level,
            mtime: self.started_at,
        }
        .to_map()
    }
}
