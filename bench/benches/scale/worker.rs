//! A simulated worker: the calls to queue and catalog that a real one makes, in its order.
//! Scanning a directory is a look into memory, packing and uploading are sleeps. It follows
//! `worker/src/jobs/continuous_wal_archiving.rs`, `shared/archive/src/register.rs`, `cycle.rs`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use walferry_catalog::claims::{self, ClaimRequest};
use walferry_catalog::intake::{self, NewFile, ScanReport, SeenFile};
use walferry_catalog::{Catalog, DirectoryId, clusters, completion::Enough, suspects};
use walferry_jobs::{ContinuousWalArchiving, JobKind};
use walferry_queue::{Handler, IfRunning, Job, JobContext, NewJob, Outcome, Priority, Queue};
use walferry_wal::WalFile;

use crate::leases::{LEASE, Leases};
use crate::site::{Cluster, SEGMENT, Site, locked};

/// What stops a job: whatever failed, in words.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Segments claimed by one statement, `archive.claim_batch`.
const CLAIM_BATCH: usize = 16;
/// As in the product: see the modules named above.
const SCAN_EVERY: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_secs(1);
const FILES_PER_HELPER: u64 = 8;
const HELPERS: u64 = 15;

/// One worker.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) site: Arc<Site>,
    pub(crate) catalog: Catalog,
    pub(crate) queue: Queue,
    pub(crate) name: String,
    /// `worker.pack_threads`.
    pub(crate) packing: Arc<Semaphore>,
    /// `worker.segments_in_flight`.
    pub(crate) admission: Arc<Semaphore>,
    pub(crate) leases: Leases,
}

impl Handler for Worker {
    fn knows(&self, name: &str, version: u32) -> bool {
        walferry_jobs::knows(name, version)
    }

    async fn handle(&self, job: Job, context: JobContext) -> Outcome {
        self.site.counts.jobs.fetch_add(1, Relaxed);
        let payload = match ContinuousWalArchiving::from_args(job.version, job.args) {
            Ok(payload) => payload,
            Err(error) => {
                let error = error.to_string();
                return Outcome::Dead { error };
            }
        };
        let mut failed = None;
        for (at, cluster) in self.site.clusters.iter().enumerate() {
            let wanted = payload.cluster.as_ref();
            if wanted.is_some_and(|name| *name != cluster.name) {
                continue;
            }
            if let Err(error) = self.archive(at, cluster, &context.drain).await {
                failed = Some(self.failed(&error));
            }
        }
        failed.map_or(Outcome::Done, |error| Outcome::Retry { error, after: None })
    }
}

/// What a watch enqueues, a worker that calls for help, and one that looks again later.
pub(crate) fn follow_up(cluster: &str, ordinal: u32, delay: Duration) -> NewJob {
    NewJob {
        priority: Priority::try_from(ContinuousWalArchiving::PRIORITY).unwrap_or_default(),
        unique_key: Some(format!("follow-up:{cluster}:{ordinal}")),
        if_running: IfRunning::Again,
        delay,
        ..NewJob::new(
            ContinuousWalArchiving::NAME,
            ContinuousWalArchiving::VERSION,
            ContinuousWalArchiving::follow_up(cluster, ordinal).to_args(),
        )
    }
}

/// What the scheduler enqueues for its `slot`: one job for all clusters of a queue.
pub(crate) fn tick(slot: u64) -> NewJob {
    NewJob {
        priority: Priority::try_from(ContinuousWalArchiving::PRIORITY).unwrap_or_default(),
        unique_key: Some(format!("{}:{slot}", ContinuousWalArchiving::NAME)),
        keep_key: Duration::from_secs(600),
        ..NewJob::new(
            ContinuousWalArchiving::NAME,
            ContinuousWalArchiving::VERSION,
            ContinuousWalArchiving::everything().to_args(),
        )
    }
}

impl Worker {
    /// Counts a failure and returns it in words.
    pub(crate) fn failed(&self, error: &Failure) -> String {
        self.site.counts.failed.fetch_add(1, Relaxed);
        let error = error.to_string();
        locked(&self.site.counts.error).clone_from(&error);
        error
    }

    async fn archive(
        &self,
        at: usize,
        cluster: &Cluster,
        drain: &CancellationToken,
    ) -> Result<(), Failure> {
        self.register(cluster).await?;
        // `refuse_catalog_on_protected_server`: the rows of all clusters, for every job.
        clusters::clusters(&mut *self.catalog.get().await?).await?;
        let worked_off = CancellationToken::new();
        let (outcome, ()) = tokio::join!(
            async {
                let outcome = self.work_off(at, cluster, drain).await;
                worked_off.cancel();
                outcome
            },
            self.keep_calling(cluster, &worked_off),
        );
        outcome?;
        let due = {
            let mut conn = self.catalog.get().await?;
            claims::next_wakeup(&mut conn, &self.request(cluster, &[cluster.directory], 0)).await?
        };
        if let Some(due) = due {
            let delay = due.clamp(Duration::from_secs(1), Duration::from_secs(300));
            self.queue
                .enqueue(follow_up(&cluster.name, 0, delay))
                .await?;
        }
        Ok(())
    }

    async fn keep_calling(&self, cluster: &Cluster, worked_off: &CancellationToken) {
        loop {
            if let Err(error) = self.call_helpers(cluster).await {
                self.failed(&error);
            }
            let pause = tokio::time::sleep(SCAN_EVERY);
            if worked_off.run_until_cancelled(pause).await.is_none() {
                return;
            }
            if let Err(error) = self.register(cluster).await {
                self.failed(&error);
            }
        }
    }

    async fn call_helpers(&self, cluster: &Cluster) -> Result<(), Failure> {
        let backlog = {
            let mut conn = self.catalog.get().await?;
            claims::backlog(&mut conn, Some(cluster.id)).await?
        };
        for ordinal in 1..=(backlog.files / FILES_PER_HELPER).min(HELPERS) {
            let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
            let job = follow_up(&cluster.name, ordinal, Duration::ZERO);
            self.queue.enqueue(job).await?;
        }
        Ok(())
    }

    async fn register(&self, cluster: &Cluster) -> Result<(), Failure> {
        let seen: Vec<SeenFile> = locked(&cluster.files)
            .iter()
            .map(|(file, (stat, _))| SeenFile {
                file: *file,
                stat: *stat,
            })
            .collect();
        let mut conn = self.catalog.get().await?;
        let unknown = intake::unknown(&mut conn, cluster.directory, &seen).await?;
        if !unknown.is_empty() {
            clusters::prefixes(&mut conn, cluster.id).await?;
            // What another worker deleted since the listing is passed over, as `examine` does.
            let fresh: Vec<NewFile> = {
                let there = locked(&cluster.files);
                unknown
                    .into_iter()
                    .map(|at| seen[at])
                    .filter(|seen| there.contains_key(&seen.file))
                    .map(|seen| NewFile {
                        file: seen.file,
                        stat: seen.stat,
                        mtime: chrono::DateTime::from_timestamp_nanos(seen.stat.mtime_ns),
                    })
                    .collect()
            };
            if !fresh.is_empty() {
                let required = &self.site.repositories;
                intake::register(
                    &mut conn,
                    cluster.prefix,
                    cluster.directory,
                    &fresh,
                    required,
                )
                .await?;
            }
        }
        let names: Vec<WalFile> = seen.iter().map(|seen| seen.file).collect();
        let mut missing = intake::missing(&mut conn, cluster.directory, &names).await?;
        missing.retain(|file| !locked(&cluster.files).contains_key(file));
        intake::gone(&mut conn, cluster.directory, &missing).await?;
        suspects::keep_only(&mut conn, cluster.directory, &[]).await?;
        let newest = seen.iter().map(|seen| seen.stat.mtime_ns).max();
        let report = ScanReport {
            scanned_by: self.name.clone(),
            files: seen.len() as u64,
            bytes: seen.len() as u64 * SEGMENT,
            fs_total: 1 << 40,
            fs_available: 1 << 39,
            newest_arrival: newest.map(chrono::DateTime::from_timestamp_nanos),
        };
        intake::touch_scan(&mut conn, cluster.directory, &report).await?;
        Ok(())
    }

    async fn work_off(
        &self,
        at: usize,
        cluster: &Cluster,
        drain: &CancellationToken,
    ) -> Result<(), Failure> {
        let mut running = JoinSet::new();
        let directories = [cluster.directory];
        let outcome = loop {
            while running.try_join_next().is_some() {}
            if drain.is_cancelled() {
                break Ok(());
            }
            let room = Arc::clone(&self.admission).acquire_owned().await?;
            let mut rooms = vec![room];
            let more = std::iter::from_fn(|| Arc::clone(&self.admission).try_acquire_owned().ok());
            rooms.extend(more.take(CLAIM_BATCH - 1));
            let claimed = async {
                let mut conn = self.catalog.get().await?;
                let request = self.request(cluster, &directories, rooms.len());
                claims::claim(&mut conn, &request).await
            };
            match claimed.await {
                Ok(claimed) if claimed.is_empty() => {
                    drop(rooms);
                    tokio::select! {
                        ended = running.join_next() => if ended.is_none() { break Ok(()) },
                        () = tokio::time::sleep(ASK_AGAIN) => {}
                    }
                }
                Ok(claimed) => {
                    for claim in claimed {
                        let Some(room) = rooms.pop() else { break };
                        let (worker, held) = (self.clone(), self.leases.hold(&claim));
                        running.spawn(async move {
                            if let Err(error) = worker.process(at, claim, room).await {
                                worker.failed(&error);
                            }
                            drop(held);
                        });
                    }
                }
                Err(error) => break Err(error.into()),
            }
        };
        while running.join_next().await.is_some() {}
        outcome
    }

    fn request<'a>(
        &'a self,
        cluster: &Cluster,
        directories: &'a [DirectoryId],
        limit: usize,
    ) -> ClaimRequest<'a> {
        ClaimRequest {
            worker: &self.name,
            lease: LEASE,
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            cluster: Some(cluster.id),
            directories,
            repositories_up: &self.site.repositories,
            enough: Enough::AllRequired,
            longest_delay: Duration::from_secs(30),
        }
    }
}
