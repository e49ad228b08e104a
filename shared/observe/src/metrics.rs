//! Every metric there is, with its unit and its labels.
//!
//! A label is a name out of the configuration or a word out of the code, never
//! a segment, a job's id or a message: the number of series is bounded by the
//! size of the installation. The file is long because it is the one list: who
//! writes an alert reads `Metrics::new`, who adds a metric adds one line there and
//! one method below.

mod labels;

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::health::Report;

pub use labels::{BreakerState, ClaimOutcome, EnqueueOutcome, JobOutcome};

type Labels<const N: usize> = [(&'static str, String); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge<f64, AtomicU64>>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// The archive rate is counted over so much time.
const RATE_WINDOW: Duration = Duration::from_secs(300);

/// Handles to all metrics; clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    archived: Counters<1>,
    archive_rate: Gauge<f64, AtomicU64>,
    recent: Mutex<VecDeque<Instant>>,
    plain_bytes: Counters<1>,
    stored_bytes: Counters<1>,
    compression_ratio: Gauges<1>,
    archive_duration: Histograms<1>,
    stages: Histograms<1>,
    uploads: Counters<2>,
    backlog: Gauges<2>,
    backlog_age: Gauges<2>,
    files: Gauges<2>,
    suspects: Gauges<1>,
    lag: Gauges<1>,
    rpo: Gauges<1>,
    rpo_known: Gauges<1>,
    requests: Histograms<3>,
    request_bytes: Counters<2>,
    breaker: Gauges<1>,
    claims: Counters<1>,
    crashes: Counter,
    spool_files: Gauges<2>,
    spool_bytes: Gauges<2>,
    spool_use: Gauges<2>,
    scan_failed: Gauges<2>,
    jobs: Histograms<2>,
    job_wait: Histograms<1>,
    queue_jobs: Gauges<2>,
    queue_latency: Gauges<1>,
    enqueued: Counters<2>,
    failing: Gauges<1>,
    deleted: Counters<1>,
    base_age: Gauges<2>,
    base_size: Gauges<1>,
    base_stored: Gauges<1>,
    base_duration: Gauges<1>,
    base_failures: Gauges<1>,
}

/// Jobs of one queue by state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueueDepth {
    pub(crate) ready: u64,
    pub(crate) delayed: u64,
    pub(crate) leased: u64,
    pub(crate) dead: u64,
    /// Delayed ones that no worker knew.
    pub(crate) unknown: u64,
    /// Age of the oldest job that is ready.
    pub(crate) oldest_ready: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("walferry");
        let r = &mut registry;
        let inner = Inner {
            archived: plain(
                r,
                "segments_archived",
                "Files verified in every required repository, by cluster",
            ),
            archive_rate: plain(
                r,
                "archive_rate_per_minute",
                "Files archived per minute over the last five minutes, by this process",
            ),
            recent: Mutex::default(),
            plain_bytes: unit(
                r,
                "segments_plain",
                "Size of archived files as PostgreSQL wrote them, by cluster",
                Unit::Bytes,
            ),
            stored_bytes: unit(
                r,
                "segments_stored",
                "Size of archived files as stored, by cluster",
                Unit::Bytes,
            ),
            compression_ratio: unit(
                r,
                "compression",
                "Saved share since this process started (0.97 is 97 % saved), by cluster",
                ratio(),
            ),
            archive_duration: histogram(
                r,
                "segment_duration",
                "Time from the claim of a file to its completion, by cluster",
                long,
            ),
            stages: histogram(
                r,
                "segment_stage",
                "Time of a file that is packed whole in a stage (wait, read, hash, compress, md5, catalog, delete)",
                long,
            ),
            uploads: plain(
                r,
                "uploads",
                "Copies that were tried, by repository and outcome (success, failure)",
            ),
            backlog: plain(
                r,
                "backlog_files",
                "Files that wait for a copy, by cluster and repository",
            ),
            backlog_age: unit(
                r,
                "backlog_oldest",
                "Age of the oldest file that waits for a copy, by cluster and repository",
                Unit::Seconds,
            ),
            files: plain(
                r,
                "catalog_files",
                "Files in the catalog, by cluster and status",
            ),
            suspects: plain(
                r,
                "suspect_files",
                "Files that are not archived since something is wrong with them, by cluster",
            ),
            lag: unit(
                r,
                "lag",
                "Age of the oldest file that is not verified yet, by cluster",
                Unit::Seconds,
            ),
            rpo: unit(
                r,
                "rpo",
                "Age of the last moment that could be restored, by cluster; absent while unknown",
                Unit::Seconds,
            ),
            rpo_known: plain(
                r,
                "rpo_known",
                "Whether the RPO is known (1) or not (0), by cluster",
            ),
            requests: histogram(
                r,
                "repository_request",
                "Requests to a repository, by repository, operation and outcome",
                long,
            ),
            request_bytes: unit(
                r,
                "repository_transferred",
                "Bytes of objects that moved, by repository and operation",
                Unit::Bytes,
            ),
            breaker: plain(
                r,
                "repository_breaker_state",
                "Breaker by repository: 0 closed, 1 half open, 2 open",
            ),
            claims: plain(
                r,
                "claims",
                "Claims of files, by outcome (claimed, completed, waiting, released, failed, lost)",
            ),
            crashes: plain(
                r,
                "claim_crashes",
                "Claims taken over from a worker that gave no more sign of life",
            ),
            spool_files: plain(
                r,
                "spool_files",
                "Files in an archive directory, by cluster and directory",
            ),
            spool_bytes: unit(
                r,
                "spool_used",
                "Size of the files in an archive directory, by cluster and directory",
                Unit::Bytes,
            ),
            spool_use: unit(
                r,
                "spool_filesystem_used",
                "Used share of the directory's file system, by cluster and directory",
                ratio(),
            ),
            scan_failed: plain(
                r,
                "spool_scan_failed",
                "1 while an archive directory cannot be scanned, by cluster and directory",
            ),
            jobs: histogram(
                r,
                "job",
                "Jobs that ran, by name and outcome (done, retried, given_back, dead)",
                long,
            ),
            job_wait: histogram(
                r,
                "job_wait",
                "Time from due to taken of a job, by queue",
                long,
            ),
            queue_jobs: plain(
                r,
                "queue_jobs",
                "Jobs by queue and state (ready, delayed, leased, dead; unknown: delayed ones that no worker knew)",
            ),
            queue_latency: unit(
                r,
                "queue_latency",
                "Age of the oldest job that is ready, by queue",
                Unit::Seconds,
            ),
            enqueued: plain(
                r,
                "jobs_enqueued",
                "Jobs put into the queue, by name and outcome (added, duplicate, failed)",
            ),
            failing: plain(
                r,
                "check_failing",
                "Whether a check of /readyz fails (1) or not (0), by check; /readyz has the cause",
            ),
            deleted: plain(
                r,
                "retention_deleted_objects",
                "Objects deleted by retention, by repository",
            ),
            base_age: unit(
                r,
                "base_backup_age",
                "Age of the newest base backup that is complete, from its end, by cluster and repository",
                Unit::Seconds,
            ),
            base_size: unit(
                r,
                "base_backup_size",
                "Size of the newest base backup as the server sent it, by cluster",
                Unit::Bytes,
            ),
            base_stored: unit(
                r,
                "base_backup_stored",
                "Size of the newest base backup in each repository, by cluster",
                Unit::Bytes,
            ),
            base_duration: unit(
                r,
                "base_backup_duration",
                "Time that the newest base backup took, by cluster",
                Unit::Seconds,
            ),
            base_failures: plain(
                r,
                "base_backup_failures",
                "Base backups that failed in a row since the last one that did not, by cluster",
            ),
            registry,
        };
        Self(Arc::new(inner))
    }

    /// The text that `/metrics` answers with (OpenMetrics).
    pub fn encode(&self) -> String {
        let rate = self.recent_count(Instant::now()) as f64 / (RATE_WINDOW.as_secs_f64() / 60.0);
        self.0.archive_rate.set(rate);
        let mut text = String::new();
        encode(&mut text, &self.0.registry).expect("writing to a String cannot fail");
        text
    }

    /// A file spent `elapsed` in a stage.
    pub fn segment_stage(&self, stage: &'static str, elapsed: Duration) {
        self.0
            .stages
            .get_or_create(&[label("stage", stage)])
            .observe(elapsed.as_secs_f64());
    }

    /// A file is verified in every required repository.
    pub fn segment_archived(
        &self,
        cluster: &str,
        plain_bytes: u64,
        stored_bytes: u64,
        elapsed: Duration,
    ) {
        let labels = [label("cluster", cluster)];
        let inner = &self.0;
        inner.archived.get_or_create(&labels).inc();
        let plain = inner.plain_bytes.get_or_create_owned(&labels);
        let stored = inner.stored_bytes.get_or_create_owned(&labels);
        plain.inc_by(plain_bytes);
        stored.inc_by(stored_bytes);
        if plain.get() > 0 {
            let saved = 1.0 - stored.get() as f64 / plain.get() as f64;
            inner.compression_ratio.get_or_create(&labels).set(saved);
        }
        inner
            .archive_duration
            .get_or_create(&labels)
            .observe(elapsed.as_secs_f64());
        let now = Instant::now();
        self.recent_count(now);
        inner
            .recent
            .lock()
            .expect("nothing panics while it holds the lock")
            .push_back(now);
    }

    /// A copy was made, or could not be.
    pub fn upload(&self, repository: &str, success: bool) {
        let outcome = if success { "success" } else { "failure" };
        let labels = [label("repository", repository), label("outcome", outcome)];
        self.0.uploads.get_or_create(&labels).inc();
    }

    pub fn backlog(&self, cluster: &str, repository: &str, files: u64, oldest: Duration) {
        let labels = [label("cluster", cluster), label("repository", repository)];
        self.0.backlog.get_or_create(&labels).set(files as f64);
        self.0
            .backlog_age
            .get_or_create(&labels)
            .set(oldest.as_secs_f64());
    }

    /// `status` is one of the catalog's.
    pub fn status_count(&self, cluster: &str, status: &'static str, files: u64) {
        let labels = [label("cluster", cluster), label("status", status)];
        self.0.files.get_or_create(&labels).set(files as f64);
    }

    /// Files that lie in a directory and are not what they should be.
    pub fn suspects(&self, cluster: &str, files: u64) {
        self.0
            .suspects
            .get_or_create(&[label("cluster", cluster)])
            .set(files as f64);
    }

    pub fn lag(&self, cluster: &str, lag: Duration) {
        self.0
            .lag
            .get_or_create(&[label("cluster", cluster)])
            .set(lag.as_secs_f64());
    }

    /// An unknown RPO has no value: 0 would read as perfect, the last one as
    /// true.
    pub fn rpo(&self, cluster: &str, rpo: Option<Duration>) {
        let labels = [label("cluster", cluster)];
        let known = self.0.rpo_known.get_or_create_owned(&labels);
        if let Some(rpo) = rpo {
            self.0.rpo.get_or_create(&labels).set(rpo.as_secs_f64());
            known.set(1.0);
        } else {
            self.0.rpo.remove(&labels);
            known.set(0.0);
        }
    }

    /// `outcome` is `ok` or the cause of a failure, one of the store's words.
    pub fn request(
        &self,
        repository: &str,
        operation: &'static str,
        outcome: &'static str,
        elapsed: Duration,
        bytes: u64,
    ) {
        let labels = [
            label("repository", repository),
            label("operation", operation),
            label("outcome", outcome),
        ];
        self.0
            .requests
            .get_or_create(&labels)
            .observe(elapsed.as_secs_f64());
        let labels = [
            label("repository", repository),
            label("operation", operation),
        ];
        self.0.request_bytes.get_or_create(&labels).inc_by(bytes);
    }

    pub fn breaker(&self, repository: &str, state: BreakerState) {
        self.0
            .breaker
            .get_or_create(&[label("repository", repository)])
            .set(state.value());
    }

    /// What `/readyz` says.
    pub fn readiness(&self, report: &Report) {
        let passed = report.passed.iter().map(|check| (check, 0.0));
        let failing = report.failing.keys().map(|check| (check, 1.0));
        for (check, value) in passed.chain(failing) {
            self.0
                .failing
                .get_or_create(&[label("check", check)])
                .set(value);
        }
    }

    pub fn claims(&self, outcome: ClaimOutcome, files: u64) {
        self.0
            .claims
            .get_or_create(&[label("outcome", outcome.as_str())])
            .inc_by(files);
    }

    /// A claim was taken over whose lease had run out.
    pub fn crash(&self) {
        self.0.crashes.inc();
    }

    /// The catalog does not answer: what it said last reads as true and is not.
    pub fn catalog_unknown(&self) {
        let inner = &self.0;
        for gauges in [
            &inner.backlog,
            &inner.backlog_age,
            &inner.files,
            &inner.spool_files,
            &inner.spool_bytes,
            &inner.spool_use,
            &inner.scan_failed,
            &inner.base_age,
        ] {
            gauges.clear();
        }
        inner.lag.clear();
        inner.suspects.clear();
    }

    /// `used` is the share of the file system, 0 to 1.
    pub fn spool(&self, cluster: &str, directory: &str, files: u64, bytes: u64, used: f64) {
        let labels = [label("cluster", cluster), label("directory", directory)];
        self.0.spool_files.get_or_create(&labels).set(files as f64);
        self.0.spool_bytes.get_or_create(&labels).set(bytes as f64);
        self.0.spool_use.get_or_create(&labels).set(used);
        self.0.scan_failed.get_or_create(&labels).set(0.0);
    }

    /// The directory cannot be scanned: what the last scan found reads as true and is not.
    pub fn spool_unknown(&self, cluster: &str, directory: &str) {
        let labels = [label("cluster", cluster), label("directory", directory)];
        let inner = &self.0;
        for gauges in [&inner.spool_files, &inner.spool_bytes, &inner.spool_use] {
            gauges.remove(&labels);
        }
        inner.scan_failed.get_or_create(&labels).set(1.0);
    }

    /// `name` must be the name of a job that this build knows.
    pub fn job(&self, name: &'static str, outcome: JobOutcome, elapsed: Duration) {
        let labels = [label("job", name), label("outcome", outcome.as_str())];
        self.0
            .jobs
            .get_or_create(&labels)
            .observe(elapsed.as_secs_f64());
    }

    pub fn job_waited(&self, queue: &str, waited: Duration) {
        self.0
            .job_wait
            .get_or_create(&[label("queue", queue)])
            .observe(waited.as_secs_f64());
    }

    pub(crate) fn queue(&self, queue: &str, depth: QueueDepth) {
        let states = [
            ("ready", depth.ready),
            ("delayed", depth.delayed),
            ("leased", depth.leased),
            ("dead", depth.dead),
            ("unknown", depth.unknown),
        ];
        for (state, jobs) in states {
            let labels = [label("queue", queue), label("state", state)];
            self.0.queue_jobs.get_or_create(&labels).set(jobs as f64);
        }
        let labels = [label("queue", queue)];
        self.0
            .queue_latency
            .get_or_create(&labels)
            .set(depth.oldest_ready.as_secs_f64());
    }

    /// Redis does not answer: what it said last of its queues is not true any more.
    pub(crate) fn queues_unknown(&self) {
        self.0.queue_jobs.clear();
        self.0.queue_latency.clear();
    }

    /// `job` must be the name of a job that this build knows.
    pub fn enqueued(&self, job: &'static str, outcome: EnqueueOutcome) {
        self.0
            .enqueued
            .get_or_create(&[label("job", job), label("outcome", outcome.as_str())])
            .inc();
    }

    pub fn retention_deleted(&self, repository: &str, objects: u64) {
        self.0
            .deleted
            .get_or_create(&[label("repository", repository)])
            .inc_by(objects);
    }

    /// The newest base backup of a cluster.
    pub fn base_backup(&self, cluster: &str, size: u64, stored: u64, duration: Duration) {
        let labels = [label("cluster", cluster)];
        let set = |gauges: &Gauges<1>, value: f64| {
            gauges.get_or_create(&labels).set(value);
        };
        set(&self.0.base_size, size as f64);
        set(&self.0.base_stored, stored as f64);
        set(&self.0.base_duration, duration.as_secs_f64());
    }

    /// The age of the newest base backup that a repository has; `None` is none at all.
    pub fn base_backup_age(&self, cluster: &str, repository: &str, age: Option<Duration>) {
        let labels = [label("cluster", cluster), label("repository", repository)];
        match age {
            Some(age) => {
                self.0
                    .base_age
                    .get_or_create(&labels)
                    .set(age.as_secs_f64());
            }
            None => drop(self.0.base_age.remove(&labels)),
        }
    }

    /// How many base backups failed in a row.
    pub fn base_backup_failures(&self, cluster: &str, failures: u32) {
        let labels = [label("cluster", cluster)];
        self.0
            .base_failures
            .get_or_create(&labels)
            .set(f64::from(failures));
    }

    /// Files archived within the window, which is also trimmed to it.
    fn recent_count(&self, now: Instant) -> usize {
        let mut recent = self
            .0
            .recent
            .lock()
            .expect("nothing panics while it holds the lock");
        while recent
            .front()
            .is_some_and(|at| now.duration_since(*at) > RATE_WINDOW)
        {
            recent.pop_front();
        }
        recent.len()
    }
}

fn ratio() -> Unit {
    Unit::Other("ratio".to_owned())
}

fn label(name: &'static str, value: &str) -> (&'static str, String) {
    (name, value.to_owned())
}

fn plain<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn unit<M: Metric + Clone + Default>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Unit,
) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, unit, metric.clone());
    metric
}

fn histogram<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    buckets: fn() -> Histogram,
) -> Histograms<N> {
    let metric = Family::new_with_constructor(buckets);
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

/// From 5 ms to 10 min: a HEAD on loopback as well as a segment on a slow link.
fn long() -> Histogram {
    Histogram::new([
        0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 180.0, 600.0,
    ])
}

#[cfg(test)]
mod tests;
