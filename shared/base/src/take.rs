//! Taking a base: streamed once, stored in all repositories side by side.

use std::sync::Arc;

use chrono::Utc;
use futures::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use walferry_killpoint::kill_point;
use walferry_layout::base::{BaseObject, CompleteBase, Tablespace, TarArchive};
use walferry_pack::pack::Packer;
use walferry_store::Repository;

use crate::begun::Claim;
use crate::folders;
use crate::lane::{Describe, DropReason, Finish, Lane, LaneEnd, Message};
use crate::outcome::{BaseFacts, Dropped, TakeError, Taken};
use crate::packing::PackingError;
use crate::progress::{Progress, RepositoryProgress, RepositoryState};
use crate::read::{Reader, Whole};
use crate::settings::TakeSettings;
use crate::source::{BaseSource, SourceStart, SourceTablespace};
use crate::upload::UploadError;

/// Streams a base from `source` and stores it in all `repositories`.
///
/// A repository that fails or stalls is dropped, with the reason; the others go on. They wait
/// for the slowest, whose slices fill the memory ([`TakeSettings::memory_bound`]), but never
/// longer than `stall` for one that does not move. In each repository the order is `begun.json`,
/// slices, manifest, `backup.json`; the last one only when every object was verified and is
/// still there.
///
/// After an error, or when `cancel` asks for it, the remains are removed from the repositories
/// that answer, `begun.json` last. A crash leaves them, and so does dropping the future: `clean`
/// finds both by their `begun.json`, or by their label if that is gone.
///
/// # Errors
/// [`TakeError`]: then the base exists in no repository, with one exception: where the answer to
/// the PUT of `backup.json` was lost it may be complete, and nothing was removed.
pub async fn take<S: BaseSource>(
    source: S,
    facts: BaseFacts,
    repositories: &[Arc<dyn Repository>],
    settings: &TakeSettings,
    progress: &watch::Sender<Progress>,
    cancel: &CancellationToken,
) -> Result<Taken, TakeError> {
    if repositories.is_empty() {
        return Err(TakeError::NoRepository);
    }
    // A level that gzip does not have is known before anything is written.
    Packer::new(settings.level, 0).map_err(PackingError::from)?;
    progress.send_replace(beginning(&source, repositories));
    let take = Take {
        claim: Claim::new(&facts.prefix, facts.begun()),
        facts,
        repositories,
        settings,
        progress,
        cancel,
    };
    take.run(source).await
}

struct Take<'t> {
    claim: Claim,
    facts: BaseFacts,
    repositories: &'t [Arc<dyn Repository>],
    settings: &'t TakeSettings,
    progress: &'t watch::Sender<Progress>,
    cancel: &'t CancellationToken,
}

/// What became of the base in each repository, by its place in the list.
type Ends = Vec<Option<LaneEnd>>;

impl Take<'_> {
    async fn run(&self, mut source: impl BaseSource) -> Result<Taken, TakeError> {
        let mut ends = self.begin().await?;
        let stop = self.cancel.child_token();
        let mut lanes = JoinSet::new();
        let mut senders = Vec::new();
        for (index, repository) in self.repositories.iter().enumerate() {
            if ends[index].is_some() {
                continue;
            }
            let (sender, messages) = mpsc::unbounded_channel();
            senders.push(sender);
            let lane = self.lane(index, repository, &stop);
            lanes.spawn(async move { (index, lane.run(messages).await) });
        }
        let tablespaces = source.tablespaces();
        let start = source.start();
        let mut reader = Reader::new(&mut source, self.settings, &senders, self.progress);
        let read = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(TakeError::Cancelled),
            // `None`: every lane has ended, and knows why.
            _ = join_all(senders.iter().map(mpsc::UnboundedSender::closed)) => Ok(None),
            read = reader.read() => read.map(Some),
        };
        let cut = reader.cut();
        let finish = match read {
            Ok(Some(whole)) => {
                let base = self.base(start, &tablespaces, &whole);
                let finish = Arc::new(Finish {
                    json: base.to_json().into(),
                    base,
                    manifest: whole.manifest,
                });
                for sender in &senders {
                    // A lane that has ended is none any more.
                    let _ = sender.send(Message::Finish(Arc::clone(&finish)));
                }
                Ok(Some(finish))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                stop.cancel();
                Err(error)
            }
        };
        // The server may stop sending, and a lane that waits for more hears that none comes.
        drop((source, senders));
        while let Some(ended) = lanes.join_next().await {
            match ended {
                Ok((index, end)) => ends[index] = Some(end),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a task that stores a base backup ended"
                ),
            }
        }
        self.outcome(ends, finish, &cut).await
    }

    /// Takes the label everywhere. What stands in `Ends` afterwards is dropped already.
    async fn begin(&self) -> Result<Ends, TakeError> {
        let TakeSettings {
            stall, patience, ..
        } = *self.settings;
        let stakes = join_all(self.repositories.iter().map(|repository| async move {
            match timeout(stall, self.claim.stake(&**repository, patience)).await {
                Ok(staked) => staked.map_err(DropReason::from),
                Err(_) => Err(DropReason::Stalled(stall)),
            }
        }));
        let stakes = tokio::select! {
            biased;
            () = self.cancel.cancelled() => {
                self.clear(|_| true, &[]).await;
                return Err(TakeError::Cancelled);
            }
            stakes = stakes => stakes,
        };
        if let Some(taken) = stakes.iter().position(|stake| matches!(stake, Ok(false))) {
            self.clear(|index| !matches!(stakes[index], Ok(false)), &[])
                .await;
            return Err(TakeError::LabelTaken {
                repository: self.repositories[taken].name().clone(),
                label: self.claim.label,
            });
        }
        let ends = stakes.into_iter().enumerate().map(|(index, stake)| {
            let reason = stake.err()?;
            self.progress.send_modify(|progress| {
                progress.repositories[index].state = RepositoryState::Dropped;
            });
            Some(LaneEnd {
                outcome: Err(reason),
                sealed: false,
            })
        });
        Ok(ends.collect())
    }

    fn lane(
        &self,
        index: usize,
        repository: &Arc<dyn Repository>,
        stop: &CancellationToken,
    ) -> Lane {
        Lane {
            repository: Arc::clone(repository),
            index,
            claim: self.claim.clone(),
            describe: Describe {
                cluster: self.facts.cluster.clone(),
                system_id: self.facts.system_id,
                level: self.settings.level,
                started_at: self.facts.started_at,
            },
            settings: self.settings.clone(),
            progress: self.progress.clone(),
            stop: stop.clone(),
        }
    }

    fn base(
        &self,
        start: SourceStart,
        tablespaces: &[SourceTablespace],
        whole: &Whole,
    ) -> CompleteBase {
        let facts = &self.facts;
        let tablespaces = tablespaces.iter().filter_map(|found| match found.archive {
            TarArchive::Base => None,
            TarArchive::Tablespace(oid) => Some(Tablespace {
                oid,
                path: found.path.clone(),
            }),
        });
        CompleteBase {
            format: CompleteBase::FORMAT,
            label: self.claim.label,
            cluster: facts.cluster.clone(),
            system_id: facts.system_id,
            segment_size: facts.segment_size,
            server_version: facts.server_version,
            from_standby: facts.from_standby,
            start_lsn: start.lsn,
            start_timeline: start.timeline,
            stop_lsn: whole.stop_lsn,
            stop_timeline: whole.stop_timeline,
            started_at: facts.started_at,
            // The server had ended it when it said so, so this is not too early. A clock that
            // was set back meanwhile does not make it end before it began.
            stopped_at: (Utc::now() + facts.clock_ahead).max(facts.started_at),
            tablespaces: tablespaces.collect(),
            slices: whole.slices.clone(),
            manifest_sha256: whole.manifest.expected.sha256,
        }
    }

    /// What all that comes to; without a repository that has the base, remains are removed.
    async fn outcome(
        &self,
        ends: Ends,
        finish: Result<Option<Arc<Finish>>, TakeError>,
        cut: &[BaseObject],
    ) -> Result<Taken, TakeError> {
        let mut complete_in = Vec::new();
        let mut dropped = Vec::new();
        let mut sealed = Vec::new();
        for (repository, end) in self.repositories.iter().zip(ends) {
            let end = end.unwrap_or(LaneEnd {
                outcome: Err(DropReason::Panicked),
                sealed: true,
            });
            sealed.push(end.sealed);
            let repository = repository.name().clone();
            match end.outcome {
                Ok(()) => complete_in.push(repository),
                Err(reason) => dropped.push(Dropped { repository, reason }),
            }
        }
        if let Ok(Some(finish)) = &finish
            && !complete_in.is_empty()
        {
            return Ok(Taken {
                base: finish.base.clone(),
                complete_in,
                dropped,
            });
        }
        self.clear(|index| !sealed[index], cut).await;
        match finish {
            Err(error) => Err(error),
            Ok(_) if self.cancel.is_cancelled() => Err(TakeError::Cancelled),
            Ok(_) => Err(TakeError::AllDropped(dropped)),
        }
    }

    /// Removes what lies in the repositories that `which` names by their place. Best effort:
    /// `clean` finds what is left.
    async fn clear(&self, which: impl Fn(usize) -> bool, cut: &[BaseObject]) {
        let cleared = self.repositories.iter().enumerate();
        let cleared = cleared.filter(|(index, _)| which(*index));
        join_all(cleared.map(|(_, repository)| async move {
            let limit = self.settings.cleanup;
            let failed = match timeout(limit, clear(&**repository, &self.claim, cut)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => DropReason::from(error),
                Err(_) => DropReason::Stalled(limit),
            };
            tracing::warn!(
                base.label = %self.claim.label,
                repository.name = %repository.name(),
                error = &failed as &dyn std::error::Error,
                "remains of a base backup were not removed; they are later"
            );
        }))
        .await;
    }
}

async fn clear(
    repository: &dyn Repository,
    claim: &Claim,
    cut: &[BaseObject],
) -> Result<(), UploadError> {
    // Nothing is there, or it is somebody else's.
    if !claim.holds(repository).await? {
        return Ok(());
    }
    // A crash from here on leaves `begun.json` unless everything else is gone.
    kill_point!("base.clear-delete.before");
    let (prefix, label) = (&claim.prefix, claim.label);
    folders::delete(repository, prefix, label, cut).await?;
    folders::delete(repository, prefix, label, &[BaseObject::Manifest]).await?;
    kill_point!("base.clear-begun.before");
    folders::delete(repository, prefix, label, &[BaseObject::Begun]).await?;
    kill_point!("base.clear-begun.after");
    Ok(())
}

fn beginning(source: &impl BaseSource, repositories: &[Arc<dyn Repository>]) -> Progress {
    let sizes = source.tablespaces().into_iter().map(|found| found.size);
    Progress {
        read: 0,
        estimated: sizes.sum(),
        slices: 0,
        repositories: repositories
            .iter()
            .map(|repository| RepositoryProgress {
                name: repository.name().clone(),
                state: RepositoryState::UnderWay,
                slices: 0,
                stored: 0,
            })
            .collect(),
    }
}
