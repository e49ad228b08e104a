//! Starts archiving at once when a file arrives; the scheduler's tick is the safety net.

use std::{path::PathBuf, time::Duration};

use tokio_util::sync::CancellationToken;
use walferry_queue::Queue;
use walferry_spool::Watch;

use crate::{jobs::continuous_wal_archiving::follow_up, setup::Setup};

/// One directory to watch.
pub struct Watched {
    cluster: String,
    path: PathBuf,
    queue: Queue,
}

/// Every directory that this worker serves.
pub fn all(setup: &Setup) -> Vec<Watched> {
    setup
        .directories
        .iter()
        .filter_map(|directory| {
            Some(Watched {
                cluster: directory.cluster.clone(),
                path: directory.path.clone(),
                queue: setup.queue(&directory.queue)?.clone(),
            })
        })
        .collect()
}

/// Enqueues a job for each burst of arrivals, until `shutdown`.
pub async fn run(watched: Watched, shutdown: CancellationToken) {
    let mut watch = Watch::start(watched.path.clone(), shutdown.clone());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = watch.changed() => {}
        }
        // Ordinal 1 is the first helper's key: a watch in each of four workers enqueues one job.
        let mut wait = Duration::from_millis(100);
        while let Err(error) = watched
            .queue
            .enqueue(follow_up(&watched.cluster, 1, Duration::ZERO))
            .await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, directory.path = %watched.path.display(),
                "a file arrived and the job could not be enqueued; it is tried again");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }
}
