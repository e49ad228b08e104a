//! Claim and run, bounded, until nothing is left that could be done now.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use walferry_catalog::{
    CatalogError, DirectoryId,
    claims::{self, Backlog, ClaimRequest},
};
use walferry_killpoint::kill_point;
use walferry_proof::RepositoryName;

use crate::{
    archiver::{Archiver, Served},
    process::Ended,
    register::directory_ids,
};

/// While uploads are under way and nothing is claimable, the catalog is asked again this
/// often: files that were registered meanwhile need not wait for a slow cloud.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// When a cycle has to stop before the backlog is empty.
#[derive(Clone, Debug)]
pub struct Stop {
    /// The job was lost or cancelled: let go of everything now.
    pub cancel: CancellationToken,
    /// The process is shutting down: finish what is under way, claim nothing new.
    pub drain: CancellationToken,
}

/// What a cycle did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that are VERIFIED everywhere now.
    pub archived: u64,
    /// Files with copies still due.
    pub waiting: u64,
    /// Claims given back.
    pub released: u64,
}

impl Archiver {
    /// Works on the backlog of `cluster` until nothing can be claimed and nothing is under way.
    ///
    /// # Errors
    /// When the catalog cannot be asked; what is under way was finished first.
    pub async fn work_off(&self, cluster: &Served, stop: &Stop) -> Result<Report, CatalogError> {
        let mut running = JoinSet::new();
        let mut report = Report::default();
        let directories = directory_ids(cluster);
        let outcome = loop {
            while let Some(ended) = running.try_join_next() {
                report.add(ended);
            }
            if stop.cancel.is_cancelled() || stop.drain.is_cancelled() {
                break Ok(());
            }
            let room = tokio::select! {
                room = self.0.lanes.admit() => room,
                () = stop.cancel.cancelled() => break Ok(()),
                () = stop.drain.cancelled() => break Ok(()),
            };
            let mut rooms = vec![room];
            let more = self.0.settings.claim_batch.saturating_sub(1);
            rooms.extend(std::iter::from_fn(|| self.0.lanes.try_admit()).take(more));
            match self.claim(cluster, &directories, rooms.len()).await {
                Ok((claimed, asked)) if !claimed.is_empty() => {
                    for claim in claimed {
                        let Some(room) = rooms.pop() else { break };
                        self.0.observer.claim("claimed");
                        if claim.taken_over {
                            self.0.observer.taken_over();
                        }
                        let lease = self.0.leases.hold(&claim, asked, &stop.cancel);
                        let (archiver, cluster) = (self.clone(), cluster.clone());
                        let work =
                            async move { archiver.process(&cluster, claim, lease, room).await };
                        // What it logs belongs to the job.
                        running.spawn(work.in_current_span());
                    }
                }
                Ok(_) => {
                    drop(rooms);
                    tokio::select! {
                        ended = running.join_next() => match ended {
                            Some(ended) => report.add(ended),
                            None => break Ok(()),
                        },
                        () = tokio::time::sleep(ASK_AGAIN) => {}
                        () = stop.cancel.cancelled() => break Ok(()),
                        () = stop.drain.cancelled() => break Ok(()),
                    }
                }
                Err(error) => break Err(error),
            }
        };
        while let Some(ended) = running.join_next().await {
            report.add(ended);
        }
        outcome.map(|()| report)
    }

    /// What is left for `cluster`.
    ///
    /// # Errors
    /// When the catalog cannot be asked.
    pub async fn backlog(&self, cluster: &Served) -> Result<Backlog, CatalogError> {
        let mut conn = self.0.catalog.get().await?;
        claims::backlog(&mut conn, Some(cluster.id)).await
    }

    /// When the next unfinished row of `cluster` becomes due or loses its lease.
    ///
    /// # Errors
    /// When the catalog cannot be asked.
    pub async fn next_wakeup(&self, cluster: &Served) -> Result<Option<Duration>, CatalogError> {
        let directories = directory_ids(cluster);
        let up = self.repositories_up();
        let mut conn = self.0.catalog.get().await?;
        claims::next_wakeup(&mut conn, &self.request(cluster, &directories, &up, 0)).await
    }

    fn request<'a>(
        &'a self,
        cluster: &Served,
        directories: &'a [DirectoryId],
        up: &'a [RepositoryName],
        limit: usize,
    ) -> ClaimRequest<'a> {
        ClaimRequest {
            worker: &self.0.settings.worker,
            lease: self.0.settings.claim_lease,
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            cluster: Some(cluster.id),
            directories,
            repositories_up: up,
            enough: self.enough(cluster),
            longest_delay: self.0.settings.retry_max,
        }
    }

    async fn claim(
        &self,
        cluster: &Served,
        directories: &[DirectoryId],
        limit: usize,
    ) -> Result<(Vec<claims::Claim>, Instant), CatalogError> {
        let mut conn = self.0.catalog.get().await?;
        let up = self.repositories_up();
        let asked = Instant::now();
        kill_point!("archive.claim.before");
        let claimed =
            claims::claim(&mut conn, &self.request(cluster, directories, &up, limit)).await?;
        if !claimed.is_empty() {
            kill_point!("archive.claim.after");
        }
        Ok((claimed, asked))
    }
}

impl Report {
    fn add(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        match ended {
            Ok(Ended::Archived { .. }) => self.archived += 1,
            Ok(Ended::Waiting) => self.waiting += 1,
            Ok(Ended::Released) => self.released += 1,
            Err(error) => {
                // The lease is no longer renewed and runs out: another attempt follows.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "processing a file panicked"
                );
                self.released += 1;
            }
        }
    }
}
