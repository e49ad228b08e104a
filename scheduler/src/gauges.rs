//! The depth of the queues. Lag and RPO are the workers' to tell: they need the catalog.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use walferry_observe::{Metrics, QueueDepth};
use walferry_queue::Queue;

/// Between two readings.
const EVERY: Duration = Duration::from_secs(10);

/// Runs until `shutdown`.
pub async fn run(queues: Vec<Queue>, metrics: Metrics, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        for queue in &queues {
            // Without an answer the last reading stays; `/readyz` says that there is none.
            let Some(Ok(stats)) = shutdown.run_until_cancelled(queue.stats()).await else {
                continue;
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
}
