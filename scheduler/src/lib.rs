//! Enqueues the periodic jobs, each slot once, however many schedulers run.
//!
//! A slot is named by its time, and its unique key outlives the job: a second scheduler
//! that comes late finds the slot taken. One that was down for an hour enqueues the slot
//! it finds itself in, not the twelve it missed: the catalog says what is to be done.

pub mod health;
pub mod interval;
pub mod jobs;
pub mod slot;

use std::time::Duration;

use anyhow::Context as _;
use apalis_cron::CronScheduler;
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use walferry_config::SchedulerConfig;
use walferry_observe::{Checks, HealthServer, Metrics, follow_queues};
use walferry_queue::Queue;

use crate::{health::Beats, interval::Interval, slot::Periodic};

/// Runs until `shutdown`.
///
/// # Errors
/// When the health port is taken or a schedule ends although nobody asked.
pub async fn run(config: SchedulerConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let checks = Checks::new();
    let periodic = jobs::all(&config)?;
    let beats = Beats::new(
        periodic.iter().map(|job| job.schedule()),
        config.redis.settings.response_timeout,
    );
    beats.register(&checks);
    let queues = distinct(&periodic);
    for queue in queues.clone() {
        checks.ready(&format!("redis:{}", queue.name()), move || {
            let queue = queue.clone();
            async move { queue.ping().await.map_err(|error| error.to_string()) }
        });
    }
    let health = HealthServer::bind(
        config.scheduler.health_address,
        config.scheduler.health_address_file.as_deref(),
        checks,
        metrics.clone(),
    )
    .await
    .context("open the health port")?;
    tracing::info!(health.address = %health.address(), jobs = periodic.len(), "scheduler started");

    let mut tasks = JoinSet::new();
    // Lag and RPO are the workers' to tell: they need the catalog.
    tasks.spawn(follow_queues(queues, metrics.clone(), shutdown.clone()));
    for job in periodic {
        let (metrics, beats, shutdown) = (metrics.clone(), beats.clone(), shutdown.clone());
        tasks.spawn(async move { tick(job, metrics, beats, shutdown).await });
    }
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        if !shutdown.is_cancelled() {
            // A schedule that ended by itself would be silence: end loudly, be restarted.
            shutdown.cancel();
            outcome = Err(anyhow::anyhow!(
                "a schedule ended although nobody asked: {ended:?}"
            ));
        }
    }
    tracing::info!("scheduler stopped");
    health.close().await;
    outcome
}

async fn tick(job: Periodic, metrics: Metrics, beats: Beats, shutdown: CancellationToken) {
    // The slot we find ourselves in: after an hour of absence one job, not twelve.
    if let Some(slot) = job.current_slot() {
        job.enqueue(slot, &metrics, &beats, &shutdown).await;
    }
    while !shutdown.is_cancelled() {
        // apalis-cron computes the next tick when the last one fires; a clock that jumped
        // past it makes every poll fail, so the stream is made anew after an error.
        let mut ticks = job.ticks();
        loop {
            let tick = tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(health::BEAT) => { beats.beat(job.schedule()); continue }
                tick = ticks.next() => tick,
            };
            match tick {
                Some(Ok(slot)) => job.enqueue(slot, &metrics, &beats, &shutdown).await,
                Some(Err(error)) => {
                    tracing::warn!(
                        job = job.label(),
                        error,
                        "the clock jumped; the schedule is computed anew"
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    break;
                }
                None => break,
            }
        }
    }
}

fn distinct(periodic: &[Periodic]) -> Vec<Queue> {
    let mut queues: Vec<Queue> = Vec::new();
    for job in periodic {
        if queues
            .iter()
            .all(|queue| queue.name() != job.queue().name())
        {
            queues.push(job.queue().clone());
        }
    }
    queues
}

/// A stream of slots: seconds since the epoch.
pub(crate) type Ticks = futures::stream::BoxStream<'static, Result<u64, String>>;

pub(crate) fn every(interval: Interval) -> Ticks {
    CronScheduler::new(interval)
        .into_stream()
        .map(|tick| {
            tick.map(|tick| tick.get_timestamp())
                .map_err(|error| error.to_string())
        })
        .boxed()
}

pub(crate) fn cron(schedule: cron::Schedule) -> Ticks {
    CronScheduler::new(schedule)
        .into_stream()
        .map(|tick| {
            tick.map(|tick| tick.get_timestamp())
                .map_err(|error| error.to_string())
        })
        .boxed()
}
