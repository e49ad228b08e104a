//! Scan, call for help, work off, say when to look again.
//!
//! A second run is harmless: registering is idempotent, a claim is held by one worker at a
//! time, and each step of the pipeline looks at what is there before it acts.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use walferry_archive::{
    archiver::Served,
    copied::chain,
    cycle::{Report, Stop},
};
use walferry_jobs::{ContinuousWalArchiving, JobKind};
use walferry_queue::{IfRunning, JobContext, NewJob, Outcome, Priority, Queue};

use super::retention;
use crate::setup::Setup;

/// While a cycle is under way, new files are looked for this often.
const SCAN_EVERY: Duration = Duration::from_secs(1);
/// So many files for each worker that is called to help.
const FILES_PER_HELPER: u64 = 8;
/// The most follow-up jobs for one cluster.
const HELPERS: u64 = 15;
/// A follow-up for what is not due yet comes no sooner than this.
const SOONEST: Duration = Duration::from_secs(1);
/// While a cloud is down its copies are due all the time; its return is noticed by the probe.
const SOONEST_WITH_A_CLOUD_DOWN: Duration = Duration::from_secs(15);
/// Later than this the scheduler's tick comes anyway.
const LATEST: Duration = Duration::from_secs(300);

pub(crate) async fn handle(
    setup: &Setup,
    queue: &Queue,
    payload: ContinuousWalArchiving,
    ctx: JobContext,
) -> Outcome {
    let served = match setup.served().await {
        Ok(served) => served,
        Err(error) => return retry(&error),
    };
    let stop = Stop {
        cancel: ctx.cancel,
        drain: ctx.drain,
    };
    let wanted = |cluster: &&Served| {
        payload
            .cluster
            .as_ref()
            .is_none_or(|name| *name == cluster.name)
    };
    // One cluster's trouble is not the others': each gets its turn, then the job fails.
    let mut failures = Vec::new();
    for cluster in served.iter().filter(wanted) {
        if let Err(error) = archive(setup, queue, cluster, &stop).await {
            failures.push(format!(
                "cluster `{}`: {}",
                cluster.name,
                chain(error.as_ref())
            ));
        }
    }
    if failures.is_empty() {
        return Outcome::Done;
    }
    retry(&anyhow::anyhow!(failures.join("; ")))
}

async fn archive(
    setup: &Setup,
    queue: &Queue,
    cluster: &Served,
    stop: &Stop,
) -> anyhow::Result<Report> {
    // One directory that is away stops neither the others of its cluster nor what is
    // registered already; its error is the job's, once the rest is done.
    let registered = setup.archiver.register(cluster).await;
    // After registering: the first segment tells which system this is.
    setup.refuse_catalog_on_protected_server().await?;
    let worked_off = CancellationToken::new();
    let (report, ()) = tokio::join!(
        async {
            let report = setup.archiver.work_off(cluster, stop).await;
            worked_off.cancel();
            report
        },
        keep_calling(setup, queue, cluster, &worked_off),
    );
    let report = report?;
    if !stop.cancel.is_cancelled() {
        look_again(setup, queue, cluster).await?;
        // Nothing that is new may expire something: a tick without work stays cheap, however
        // many files retention would look at.
        if report.archived > 0 {
            retention::follow(setup, queue).await;
        }
    }
    registered?;
    tracing::debug!(
        cluster.name,
        archived = report.archived,
        waiting = report.waiting,
        released = report.released,
        "cycle ended"
    );
    Ok(report)
}

/// Calls helpers, and while the backlog is worked off looks for what has arrived since: a
/// burst that begins with one file must not wait for this worker alone.
async fn keep_calling(
    setup: &Setup,
    queue: &Queue,
    cluster: &Served,
    worked_off: &CancellationToken,
) {
    let mut busy = Duration::ZERO;
    loop {
        let began = Instant::now();
        match setup.archiver.backlog(cluster).await {
            Ok(backlog) => call_helpers(queue, cluster, backlog.files).await,
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "no help could be called"
            ),
        }
        // A directory of 100,000 files takes its time to scan: that may not be all we do.
        let pause = SCAN_EVERY.max((busy + began.elapsed()) * 10);
        if worked_off
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
        let began = Instant::now();
        if let Err(error) = setup.archiver.register(cluster).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the directories were not scanned again"
            );
        }
        busy = began.elapsed();
    }
}

/// Draws in idle workers: one job for each so many files, at most one waiting per ordinal.
async fn call_helpers(queue: &Queue, cluster: &Served, files: u64) {
    for ordinal in 1..=(files / FILES_PER_HELPER).min(HELPERS) {
        let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
        let job = follow_up(&cluster.name, ordinal, Duration::ZERO);
        if let Err(error) = queue.enqueue(job).await {
            // Help that does not come costs time only: this worker goes on alone.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "no help could be called"
            );
            return;
        }
    }
}

/// A delayed follow-up for when the next row becomes due or loses its lease.
async fn look_again(setup: &Setup, queue: &Queue, cluster: &Served) -> anyhow::Result<()> {
    let Some(due) = setup.archiver.next_wakeup(cluster).await? else {
        return Ok(());
    };
    let soonest = if setup
        .archiver
        .repositories()
        .iter()
        .all(|target| target.up())
    {
        SOONEST
    } else {
        SOONEST_WITH_A_CLOUD_DOWN
    };
    let job = follow_up(&cluster.name, 0, due.clamp(soonest, LATEST));
    queue.enqueue(job).await?;
    Ok(())
}

/// `ordinal` 0 is the one that looks again later.
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

pub(crate) fn retry(error: &anyhow::Error) -> Outcome {
    let error = chain(error.as_ref());
    tracing::error!(error, "the job failed; it is tried again");
    Outcome::Retry { error, after: None }
}
