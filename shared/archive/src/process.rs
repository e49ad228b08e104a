//! One claimed file: check → pack → upload side by side → verify → complete → delete.

use std::time::Instant;

use futures::{StreamExt, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;
use walferry_catalog::{
    CatalogError,
    claims::{self, Claim, CopyState, Encoder, ReleaseAs},
    completion::{self, Completed, Enough, Waiting},
};
use walferry_killpoint::kill_point;
use walferry_layout::{metadata::ObjectMetadata, object_key};
use walferry_pack::pack::{ENCODER, Packed};
use walferry_proof::{Expected, ExpectedEtag, ObjectKey, Sha256, Verified};

use crate::{
    archiver::{Archiver, Served, Target},
    copied::{Copied, chain},
    heal,
    lanes::Admission,
    leases::{Lease, LeaseLost},
    local::{self, LocalError},
    owner::Owner,
    stages::Stage,
    stream::Streamed,
    upload::{CopyError, Upload},
};

/// How one claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// VERIFIED everywhere it has to be, and the local file deleted or nobody's.
    Archived {
        /// Size of a copy in bytes; 0 when none was made now.
        stored: u64,
    },
    /// Some copies are still due; the claim was given back.
    Waiting,
    /// Nothing was done; the claim was given back or had been lost.
    Released,
}

/// A claim could not be processed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The catalog failed or fenced us off.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The local file is not what it was, or cannot be read.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The lease ran out.
    #[error(transparent)]
    Lease(#[from] LeaseLost),
}

impl Archiver {
    /// Runs one claim to its end. A second run is harmless: every step looks at what is
    /// there before it acts, and every write to the catalog is fenced by the attempt.
    pub async fn process(
        &self,
        cluster: &Served,
        claim: Claim,
        lease: Lease,
        admission: Admission,
    ) -> Ended {
        let began = Instant::now();
        let stop = lease.cancelled().clone();
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Err(ProcessError::Lease(lease.lost())),
            outcome = self.run(cluster, &claim, &lease, admission) => outcome,
        };
        match outcome {
            Ok(ended) => {
                self.report(cluster, &claim, ended, began);
                ended
            }
            Err(error) => {
                self.give_back(&claim, &error).await;
                Ended::Released
            }
        }
    }

    async fn run(
        &self,
        cluster: &Served,
        claim: &Claim,
        lease: &Lease,
        admission: Admission,
    ) -> Result<Ended, ProcessError> {
        let mut due = self.due(claim);
        let here = local::served(cluster, claim);
        if due.is_empty() {
            return self.compare_again(cluster, claim, lease, &here).await;
        }
        let healable = claim.sha256.is_some()
            && claim.copies.iter().any(|copy| {
                copy.state == CopyState::Verified
                    && self.target(&copy.repository).is_some_and(Target::up)
            });
        let Some(owner) = owner(cluster, claim) else {
            let reason = "no segment of this cluster was seen yet, so its system id is unknown";
            let how = ReleaseAs::NotYet {
                reason: reason.to_owned(),
                retry_after: self.0.settings.retry_base,
            };
            return self.release(claim, lease, how).await;
        };
        let key = object_key(&claim.prefix.key_prefix, &claim.file);
        let mut copied = self.still_in_the_way(claim, &key, &mut due).await;
        let (mut unsourced, mut lost) = (Vec::new(), Vec::new());
        // The compressed copy in the other cloud saves reading and packing again.
        if healable && !due.is_empty() {
            let healed = heal::from_another(self, claim, lease, &owner, &key, &due).await;
            copied.join(healed.copied);
            (unsourced, lost) = (healed.unsourced, healed.lost);
            due = unsourced.iter().map(|(target, _)| target.clone()).collect();
        }
        match here.first() {
            Some(file) if !due.is_empty() => {
                let local = self
                    .archive_local(cluster, claim, lease, admission, &owner, &key, &due, file)
                    .await;
                match local {
                    Ok(Some(local)) => {
                        copied.join(local);
                        unsourced.clear();
                    }
                    Ok(None) => return Ok(Ended::Released),
                    // What the clouds said is worth recording all the same.
                    Err(ProcessError::Local(error)) if !unsourced.is_empty() => tracing::warn!(
                        segment.name = %claim.file,
                        error = &error as &dyn std::error::Error,
                        "the local file could not replace the copy in the other cloud"
                    ),
                    Err(error) => return Err(error),
                }
            }
            None if !healable && copied.failures.is_empty() => {
                return self.release(claim, lease, ReleaseAs::Nothing).await;
            }
            _ => {}
        }
        for (target, error) in unsourced {
            copied.add(self, claim, target.name().clone(), Err(error));
        }
        self.withdraw(claim, &copied, lost).await?;
        self.complete(cluster, claim, lease, copied, &here).await
    }

    /// Takes those repositories out of `due` where another content was found before and
    /// still lies under the key.
    async fn still_in_the_way(
        &self,
        claim: &Claim,
        key: &ObjectKey,
        due: &mut Vec<Target>,
    ) -> Copied {
        let mut copied = Copied::nothing();
        let mut free = Vec::new();
        for target in due.drain(..) {
            match self.0.foreign.out_of_the_way(&target, key).await {
                Ok(()) => free.push(target),
                // Told loudly when it was found.
                Err(error) => copied.fail(self, claim, target.name().clone(), &error),
            }
        }
        *due = free;
        copied
    }

    /// Copies that are none are due again, once the content is verified elsewhere: before
    /// that, what is left of them may be all there is.
    async fn withdraw(
        &self,
        claim: &Claim,
        copied: &Copied,
        lost: Vec<heal::Lost>,
    ) -> Result<(), CatalogError> {
        if copied.verified.is_empty() || lost.is_empty() {
            return Ok(());
        }
        let mut conn = self.0.catalog.get().await?;
        for lost in lost {
            kill_point!("withdraw.commit.before");
            completion::withdraw(
                &mut conn,
                claim.token,
                &lost.repository,
                lost.cause,
                &lost.reason,
            )
            .await?;
            kill_point!("withdraw.commit.after");
        }
        Ok(())
    }

    pub(crate) async fn release(
        &self,
        claim: &Claim,
        lease: &Lease,
        how: ReleaseAs,
    ) -> Result<Ended, ProcessError> {
        let mut conn = self.0.catalog.get().await?;
        lease.settle(true);
        kill_point!("release.commit.before");
        claims::release(&mut conn, claim.token, how).await?;
        kill_point!("release.commit.after");
        Ok(Ended::Released)
    }

    /// The repositories that this claim still owes a copy and that can be asked.
    fn due(&self, claim: &Claim) -> Vec<Target> {
        claim
            .copies
            .iter()
            .filter(|copy| copy.state == CopyState::Due && copy.due_in.is_none())
            .filter_map(|copy| self.target(&copy.repository).cloned())
            .collect()
    }

    /// Makes the copies of `due` from the local file; `None` when it holds other content than
    /// what is registered, and the claim has ended.
    #[expect(
        clippy::too_many_arguments,
        reason = "the facts of one claim, gathered by `run`"
    )]
    async fn archive_local(
        &self,
        cluster: &Served,
        claim: &Claim,
        lease: &Lease,
        admission: Admission,
        owner: &Owner,
        key: &ObjectKey,
        due: &[Target],
        file: &local::Here,
    ) -> Result<Option<Copied>, ProcessError> {
        let level = self.level(claim);
        if file.stat.size > self.0.settings.whole_limit {
            let streamed = Streamed {
                archiver: self,
                cluster,
                claim,
                lease,
                owner,
                key,
                level,
            };
            // It holds a few pieces for each repository, whatever the file's size.
            let copied = streamed.archive(due, file).await;
            drop(admission);
            return copied;
        }
        let asked = Instant::now();
        let mut memory = self.0.lanes.reserve(file.stat.size).await;
        let packed = local::pack(self, claim, file, level, lease.cancelled()).await?;
        for (stage, time) in packed.spent.of(asked.elapsed()) {
            self.0.observer.spent(stage, time);
        }
        memory.shrink(packed.gzip.body.len() as u64);
        let began = Instant::now();
        let mut conn = self.0.catalog.get().await?;
        kill_point!("archive.packed.before");
        // Recorded before the first PUT: a crash right after leaves a row that tells later
        // attempts which encoder and level to use, so that a repeated PUT is identical.
        let recorded = completion::set_packed(
            &mut conn,
            claim.token,
            &completion::Packed {
                sha256: packed.sha256,
                size: packed.plain_size,
                encoder: encoder(level),
                compressed_size: packed.gzip.body.len() as u64,
                compressed_md5: packed.gzip.md5,
            },
        )
        .await;
        drop(conn);
        self.0.observer.spent(Stage::Catalog, began.elapsed());
        if let Err(error @ CatalogError::Conflict { .. }) = recorded {
            self.quarantine_local(claim, lease, file, &error).await?;
            return Ok(None);
        }
        recorded?;
        kill_point!("archive.packed.after");
        local::record_knowledge(self, claim, &packed).await?;
        let content = (packed.sha256, packed.plain_size);
        let metadata = metadata(cluster, owner, claim, content, level);
        let upload = Upload {
            pool: &self.0.pool,
            foreign: &self.0.foreign,
            lease,
            key,
            metadata: &metadata,
            mode: self.0.settings.verify,
        };
        let expected = Expected {
            sha256: packed.sha256,
            plain_size: packed.plain_size,
            stored_size: packed.gzip.body.len() as u64,
            stored_md5: packed.gzip.md5,
            etag: ExpectedEtag::Single(packed.gzip.md5),
        };
        let mut copied = self
            .side_by_side(
                claim,
                owner,
                due,
                admission,
                &upload,
                &packed.gzip,
                &expected,
            )
            .await;
        copied.hashed = Some(file.clone());
        Ok(Some(copied))
    }

    /// Sends one packed file to every repository it is due in, each on its own.
    #[expect(
        clippy::too_many_arguments,
        reason = "the facts of one claim, gathered by `run`"
    )]
    async fn side_by_side(
        &self,
        claim: &Claim,
        owner: &Owner,
        due: &[Target],
        admission: Admission,
        upload: &Upload<'_>,
        gzip: &Packed,
        expected: &Expected,
    ) -> Copied {
        let one_is_done = CancellationToken::new();
        let mut uploads: FuturesUnordered<_> = due
            .iter()
            .map(|target| {
                let one_is_done = &one_is_done;
                async move {
                    let name = target.name();
                    let result = async {
                        let place = tokio::select! {
                            biased;
                            place = self.0.lanes.enter(name, gzip.body.len() as u64) => place,
                            () = async {
                                one_is_done.cancelled().await;
                                self.0.lanes.has_to_give_way(name).await;
                            } => return Err(CopyError::NoRoom { repository: name.clone() }),
                        };
                        self.0
                            .owners
                            .ensure(target.store.as_ref(), &claim.prefix.key_prefix, owner)
                            .await?;
                        let verified = upload.packed(target.store.as_ref(), gzip, expected).await;
                        drop(place);
                        verified
                    }
                    .await;
                    (name.clone(), result)
                }
            })
            .collect();
        let mut copied = Copied::nothing();
        let mut admission = Some(admission);
        while let Some((name, result)) = uploads.next().await {
            one_is_done.cancel();
            // From here on the segment only occupies lanes, and the next one may begin.
            admission.take();
            copied.add(self, claim, name, result);
        }
        copied
    }

    /// Writes what was proven, and deletes the local file when that is enough.
    async fn complete(
        &self,
        cluster: &Served,
        claim: &Claim,
        lease: &Lease,
        copied: Copied,
        here: &[local::Here],
    ) -> Result<Ended, ProcessError> {
        if copied.verified.is_empty() && copied.failures.is_empty() {
            return Ok(Ended::Released);
        }
        let stored = copied.verified.first().map_or(0, Verified::stored_size);
        let began = Instant::now();
        let mut conn = self.0.catalog.get().await?;
        lease.settle(true);
        kill_point!("archive.complete.before");
        let completed = completion::complete(
            &mut conn,
            claim.token,
            copied.verified,
            copied.failures,
            self.enough(cluster),
        )
        .await?;
        drop(conn);
        self.0.observer.spent(Stage::Catalog, began.elapsed());
        kill_point!("archive.complete.after");
        match completed {
            Completed::Archived(archived) => {
                lease.settle(false);
                let began = Instant::now();
                self.delete_local(claim, lease, &archived, here, copied.hashed.as_ref())
                    .await?;
                self.0.observer.spent(Stage::Delete, began.elapsed());
                let all = archived.all_required();
                Ok(if all {
                    Ended::Archived { stored }
                } else {
                    Ended::Waiting
                })
            }
            Completed::Waiting(Waiting {
                all_required: true, ..
            }) => Ok(Ended::Archived { stored }),
            Completed::Waiting(_) => Ok(Ended::Waiting),
        }
    }

    /// The level of an earlier attempt, or what the settings say.
    fn level(&self, claim: &Claim) -> u8 {
        match &claim.encoder {
            Some(recorded) if recorded.name == ENCODER => recorded.level,
            // An earlier version's encoder made other bytes at any level: an object of it that
            // is already there is read back and adopted.
            _ => self.0.settings.level,
        }
    }

    /// How many copies allow the local file to go: all that are required, or one while a
    /// directory's file system is fuller than the setting allows.
    pub(crate) fn enough(&self, cluster: &Served) -> Enough {
        let pressed = self
            .0
            .settings
            .delete_after_one_copy_above
            .is_some_and(|mark| {
                cluster
                    .directories
                    .iter()
                    .any(|directory| local::share(&directory.path) > mark)
            });
        if pressed {
            Enough::Copies(std::num::NonZeroU32::MIN)
        } else {
            Enough::AllRequired
        }
    }

    async fn give_back(&self, claim: &Claim, error: &ProcessError) {
        let release = match error {
            // Nothing is wrong with the file: whoever runs the job next may have it at once.
            ProcessError::Lease(LeaseLost::Stopped) => ReleaseAs::Drained,
            ProcessError::Lease(_) => {
                self.0.observer.claim("lost");
                tracing::warn!(
                    segment.name = %claim.file,
                    error = error as &dyn std::error::Error,
                    "the claim is no longer held; nothing more is done for it"
                );
                return;
            }
            ProcessError::Catalog(error) if error.is_lost_claim() => {
                self.0.observer.claim("lost");
                return;
            }
            ProcessError::Local(LocalError::Gone { .. }) => ReleaseAs::Nothing,
            ProcessError::Catalog(_) | ProcessError::Local(_) => ReleaseAs::Failed {
                error: chain(error),
                cause: "source",
                retry_after: crate::upload::backoff(
                    claim.failures,
                    self.0.settings.retry_base,
                    self.0.settings.retry_max,
                ),
            },
        };
        tracing::warn!(
            segment.name = %claim.file,
            error = error as &dyn std::error::Error,
            "the file was not archived; it is tried again"
        );
        self.0.observer.claim(match release {
            ReleaseAs::Failed { .. } => "failed",
            ReleaseAs::Drained | ReleaseAs::Nothing | ReleaseAs::NotYet { .. } => "released",
        });
        // When the catalog is down the lease runs out by itself, with the same effect.
        if let Ok(mut conn) = self.0.catalog.get().await {
            let _ = claims::release(&mut conn, claim.token, release).await;
        }
    }

    fn report(&self, cluster: &Served, claim: &Claim, ended: Ended, began: Instant) {
        self.0.observer.claim(match ended {
            Ended::Archived { .. } => "completed",
            Ended::Waiting => "waiting",
            Ended::Released => "released",
        });
        if let (Ended::Archived { stored }, false) = (ended, claim.verified_before) {
            let plain = claim
                .size
                .or_else(|| claim.local.first().map(|file| file.stat.size))
                .unwrap_or(0);
            self.0
                .observer
                .archived(&cluster.name, plain, stored, began.elapsed());
            tracing::info!(
                cluster.name,
                segment.name = %claim.file,
                size_bytes = plain,
                stored_bytes = stored,
                attempt = %claim.token.attempt,
                duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                "archived"
            );
        }
    }
}

pub(crate) fn owner(cluster: &Served, claim: &Claim) -> Option<Owner> {
    Some(Owner {
        cluster: cluster.name.clone(),
        system_id: claim.prefix.system_id?,
        segment_size: claim.prefix.segment_size?,
    })
}

/// How files are packed here, for the catalog.
pub(crate) fn encoder(level: u8) -> Encoder {
    Encoder {
        name: ENCODER.to_owned(),
        level,
    }
}

/// What the objects of a file say about it; `content` is its hash and its size.
pub(crate) fn metadata(
    cluster: &Served,
    owner: &Owner,
    claim: &Claim,
    content: (Sha256, u64),
    level: u8,
) -> ObjectMetadata {
    ObjectMetadata {
        sha256: content.0,
        size: content.1,
        cluster: cluster.name.clone(),
        system_id: owner.system_id,
        encoder: ENCODER.to_owned(),
        level,
        mtime: claim.mtime.unwrap_or_else(chrono::Utc::now),
    }
}
