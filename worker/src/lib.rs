//! The worker: consumers of the queues, the archive pipeline, watches on the
//! directories, probes of the clouds, and the health port, which closes last.

pub mod allocator;
pub mod gauges;
pub mod health;
pub mod healthcheck;
pub mod jobs;
pub mod observers;
pub mod probe;
pub mod register;
pub mod setup;
pub mod watch;

use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use walferry_catalog::claims;
use walferry_config::WorkerConfig;
use walferry_observe::{Checks, HealthServer, Metrics, follow_queues};
use walferry_queue::{Consumer, ConsumerHealth};

use crate::{register::Handlers, setup::Setup};

/// Runs until `shutdown`, then drains: nothing new is taken, what is under way is finished
/// within the grace period or given back without costing an attempt.
///
/// # Errors
/// When the worker cannot start, or when a consumer ended although nobody asked.
pub async fn run(config: WorkerConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let checks = Checks::new();
    let health = HealthServer::bind(
        config.worker.health_address,
        config.worker.health_address_file.as_deref(),
        checks.clone(),
        metrics.clone(),
    )
    .await
    .context("open the health port")?;
    // Leases are renewed until the last claim has ended, so this is cancelled after the drain.
    let finished = CancellationToken::new();
    let setup = Setup::new(&config, &metrics, finished.clone())?;
    health::register(&checks, &setup);
    tracing::info!(
        worker.id = setup.worker,
        health.address = %health.address(),
        queues = setup.identity.queues.join(","),
        directories = setup.identity.serves.join(","),
        "worker started"
    );

    let mut background = JoinSet::new();
    background.spawn(setup::prepare(setup.clone(), shutdown.clone()));
    background.spawn(probe::run(setup.clone(), metrics.clone(), shutdown.clone()));
    background.spawn(gauges::run(
        setup.clone(),
        metrics.clone(),
        shutdown.clone(),
    ));
    background.spawn(follow_queues(
        setup.queues.to_vec(),
        metrics.clone(),
        shutdown.clone(),
    ));
    for watched in watch::all(&setup) {
        background.spawn(watch::run(watched, shutdown.clone()));
    }

    let consumers = consume(&setup, &config, &checks, &metrics, &shutdown);
    let outcome = supervise(consumers, &shutdown).await;

    // Whatever the handlers did not get done within the grace period is claimed by the next
    // worker at once, not when the leases run out. A crash here leaves just that: leases
    // that run out.
    let given_back = tokio::time::timeout(Duration::from_secs(3), async {
        let mut conn = setup.archiver.catalog().get().await?;
        claims::release_all(&mut conn, &setup.worker).await
    })
    .await;
    if let Ok(Ok(claims @ 1..)) = given_back {
        tracing::info!(claims, "claims given back");
    }
    finished.cancel();
    while background.join_next().await.is_some() {}
    tracing::info!("worker stopped");
    health.close().await;
    outcome
}

type Consumers = JoinSet<(String, Result<(), walferry_queue::ConsumerEnded>)>;

fn consume(
    setup: &Setup,
    config: &WorkerConfig,
    checks: &Checks,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> Consumers {
    let mut consumers = JoinSet::new();
    for queue in setup.queues.iter() {
        let name = queue.name().to_string();
        let alive = ConsumerHealth::new();
        watch_consumer(checks, &name, &alive);
        let consumer = Consumer {
            queue: queue.clone(),
            worker: setup.identity.clone(),
            slots: config.worker.slots,
            grace: config.worker.shutdown_grace,
        };
        let handlers = Handlers::new(setup.clone(), queue.clone(), metrics.clone());
        let shutdown = shutdown.clone();
        consumers.spawn(async move {
            let ended = consumer.run(handlers, shutdown, alive).await;
            (name, ended)
        });
    }
    consumers
}

/// Makes `/healthz` and `/readyz` look at one consumer.
fn watch_consumer(checks: &Checks, queue: &str, health: &ConsumerHealth) {
    let name = format!("consumer:{queue}");
    let watched = health.clone();
    checks.alive(&name, move || {
        let state = watched.alive();
        async move { state }
    });
    // Under the same name: ready is alive, not draining, and with Redis to be had.
    let watched = health.clone();
    checks.ready(&name, move || {
        let state = watched.ready();
        async move { state }
    });
}

async fn supervise(mut consumers: Consumers, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = consumers.join_next().await {
        let asked = shutdown.is_cancelled();
        let error = match ended {
            Ok((_, Ok(()))) if asked => continue,
            Ok((queue, Ok(()))) => {
                anyhow::anyhow!("the consumer of `{queue}` ended although nobody asked")
            }
            Ok((queue, Err(error))) => {
                anyhow::Error::new(error).context(format!("the consumer of `{queue}` ended"))
            }
            Err(panic) => anyhow::Error::new(panic).context("a consumer panicked"),
        };
        // A worker that lives without consuming looks healthy and archives nothing: end it,
        // loudly, so that it is restarted.
        tracing::error!(
            error = format!("{error:#}"),
            "a consumer ended; the worker stops"
        );
        shutdown.cancel();
        if outcome.is_ok() {
            outcome = Err(error);
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use walferry_queue::{
        ConsumerEnded, Handler, Job, JobContext, Outcome, Queue, QueueSettings, RedisSettings,
        WorkerIdentity,
    };

    use super::*;

    #[derive(Clone)]
    struct Nobody;

    impl Handler for Nobody {
        fn knows(&self, _name: &str, _version: u32) -> bool {
            false
        }

        async fn handle(&self, _job: Job, _ctx: JobContext) -> Outcome {
            Outcome::Done
        }
    }

    /// `/healthz` as a container's health check asks for it.
    async fn healthz(health: &HealthServer) -> anyhow::Result<()> {
        let address = health.address();
        tokio::task::spawn_blocking(move || healthcheck::ask(address)).await?
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_consumer_that_was_aborted_makes_healthz_503_within_15_seconds() {
        // Nobody listens there: that alone is no reason for a restart.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let queue = Queue::new(
            RedisSettings::new(format!("redis://{address}")),
            "backups".parse().expect("a name"),
            QueueSettings::default(),
        )
        .expect("valid settings");
        let checks = Checks::new();
        let alive = ConsumerHealth::new();
        watch_consumer(&checks, "backups", &alive);
        let any = "127.0.0.1:0".parse().expect("an address");
        let health = HealthServer::bind(any, None, checks, Metrics::new())
            .await
            .expect("a health port");
        let consumer = Consumer {
            queue,
            worker: WorkerIdentity::of_this_process(&[]),
            slots: 1,
            grace: Duration::from_secs(1),
        };
        let task = tokio::spawn(consumer.run(Nobody, CancellationToken::new(), alive));
        healthz(&health).await.expect("it consumes");

        task.abort();
        let aborted = Instant::now();
        let said = loop {
            match healthz(&health).await {
                Ok(()) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(said) => break format!("{said:#}"),
            }
            assert!(aborted.elapsed() < Duration::from_secs(15));
        };
        assert!(said.contains(" 503 "), "HTTP still lives: {said}");
        assert!(said.contains("consumer:backups"), "{said}");
        health.close().await;
    }

    async fn supervised(
        ended: impl Future<Output = Result<(), ConsumerEnded>> + Send + 'static,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut consumers = JoinSet::new();
        consumers.spawn(async move { ("backups".to_owned(), ended.await) });
        supervise(consumers, shutdown).await
    }

    #[tokio::test]
    async fn a_consumer_that_ends_although_nobody_asked_ends_the_worker_with_an_error() {
        let failed = async {
            Err(ConsumerEnded::Unasked {
                queue: "backups".to_owned(),
                reason: "its claimer stopped".to_owned(),
            })
        };
        let shutdown = CancellationToken::new();
        let error = supervised(failed, &shutdown).await.expect_err("an error");
        assert!(format!("{error:#}").contains("claimer"), "{error:#}");
        assert!(shutdown.is_cancelled(), "the other consumers drain");

        let shutdown = CancellationToken::new();
        let error = supervised(async { Ok(()) }, &shutdown).await;
        assert!(error.is_err() && shutdown.is_cancelled());

        let shutdown = CancellationToken::new();
        let error = supervised(async { panic!("on purpose") }, &shutdown).await;
        assert!(error.is_err() && shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn a_consumer_that_was_asked_to_end_ends_well() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let ended = supervised(async { Ok(()) }, &shutdown).await;
        assert!(ended.is_ok(), "{ended:?}");
    }
}
