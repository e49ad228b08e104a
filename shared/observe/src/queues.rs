//! The depth of the queues, read in the same way by every program that serves `/metrics`.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use walferry_queue::Queue;

use crate::metrics::{Metrics, QueueDepth};

/// Between two readings.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps the metrics of `queues` true, all in one Redis, until `shutdown`.
pub async fn follow_queues(queues: Vec<Queue>, metrics: Metrics, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let forever = async {
        loop {
            tick.tick().await;
            read(&queues, &metrics).await;
        }
    };
    shutdown.run_until_cancelled(forever).await;
}

async fn read(queues: &[Queue], metrics: &Metrics) {
    for queue in queues {
        let Ok(stats) = queue.stats().await else {
            // Why there is no answer, `/readyz` says. The last one is none.
            metrics.queues_unknown();
            return;
        };
        metrics.queue(
            queue.name().as_str(),
            QueueDepth {
                ready: stats.ready,
                delayed: stats.delayed,
                leased: stats.leased,
                dead: stats.dead,
                unknown: stats.unknown,
                oldest_ready: stats.oldest_ready_age.unwrap_or(Duration::ZERO),
            },
        );
    }
}
