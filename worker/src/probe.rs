//! Asks the clouds that are down whether they are back, and wakes what waits for them.

use std::{collections::BTreeMap, time::Duration};

use tokio_util::sync::CancellationToken;
use walferry_archive::archiver::Target;
use walferry_catalog::{claims, repositories};
use walferry_observe::{BreakerState as Gauge, Metrics};
use walferry_store::{BreakerState, ReadRepository};

use crate::{jobs::continuous_wal_archiving::follow_up, setup::Setup};

/// How often the breakers are looked at. An open breaker lets a probe through by its own
/// back-off (at most 30 s), so a cloud that is back is noticed within about 31 s.
const EVERY: Duration = Duration::from_secs(1);
/// How often the health of a repository is written although nothing changed.
const REPORT: Duration = Duration::from_secs(10);

/// Runs until `shutdown`.
pub async fn run(setup: Setup, metrics: Metrics, shutdown: CancellationToken) {
    let mut before = BTreeMap::new();
    let mut reported = BTreeMap::new();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        for target in setup.archiver.repositories() {
            let name = target.name().clone();
            let closed = matches!(target.store.state(), BreakerState::Closed);
            if !closed {
                // Fails at once while the back-off lasts; the breaker hears the answer.
                let _ = target.store.probe().await;
            }
            let up = target.up();
            let gauge = metric(target);
            // A fall and a rise between two looks are a return, too: copies that failed in
            // between wait for this, and would otherwise wait for the scheduler's tick.
            let was = match before.insert(name.clone(), gauge).unwrap_or(Gauge::Closed) {
                Gauge::Closed => closed,
                Gauge::HalfOpen => true,
                Gauge::Open => false,
            };
            metrics.breaker(name.as_str(), gauge);
            if up && !was {
                wake(&setup, target).await;
            }
            let due = reported
                .get(&name)
                .is_none_or(|at: &tokio::time::Instant| at.elapsed() >= REPORT);
            if (up != was || due) && report(&setup, target).await.is_ok() {
                reported.insert(name, tokio::time::Instant::now());
            }
        }
    }
}

async fn wake(setup: &Setup, target: &Target) {
    tracing::info!(repository.name = %target.name(), "the repository answers again");
    let due = async {
        let mut conn = setup.archiver.catalog().get().await?;
        claims::make_due_now(&mut conn, target.name()).await
    }
    .await;
    match due {
        Ok(copies) => {
            tracing::info!(repository.name = %target.name(), copies, "missing copies are due now");
        }
        Err(error) => {
            // They come due by their own back-off.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "missing copies were not made due"
            );
        }
    }
    for directory in setup.directories.iter() {
        let Some(queue) = setup.queue(&directory.queue) else {
            continue;
        };
        if let Err(error) = queue
            .enqueue(follow_up(&directory.cluster, 1, Duration::ZERO))
            .await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the healing job was not enqueued"
            );
        }
    }
}

async fn report(setup: &Setup, target: &Target) -> anyhow::Result<()> {
    // Before this there may be no row to report into.
    setup.served().await?;
    let mut conn = setup.archiver.catalog().get().await?;
    repositories::report_health(&mut conn, target.name(), &setup.health_of(target)).await?;
    Ok(())
}

fn metric(target: &Target) -> Gauge {
    match target.store.state() {
        BreakerState::Closed => Gauge::Closed,
        BreakerState::HalfOpen { .. } => Gauge::HalfOpen,
        BreakerState::Open { .. } => Gauge::Open,
    }
}
