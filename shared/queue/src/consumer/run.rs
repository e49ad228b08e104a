use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::{Monitor, ParallelizeExt, WorkerBuilder};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::backend::RedisBackend;
use super::claimer::claim_until_drained;
use super::handler::{Handler, HandlerService};
use super::health::ConsumerHealth;
use super::identity::WorkerIdentity;
use super::leases::Why;
use super::shared::Shared;
use super::{lease_keeper, wake};
use crate::queue::Queue;

/// One worker on one queue.
#[derive(Debug, Clone)]
pub struct Consumer {
    pub queue: Queue,
    pub worker: WorkerIdentity,
    /// How many jobs at the same time; a job is claimed only for a free slot.
    pub slots: usize,
    /// How long handlers may go on once a shutdown began.
    pub grace: Duration,
}

/// The consumer ended although nobody asked it to: the program should exit with an
/// error, so that it is started again.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerEnded {
    #[error("cannot start the thread that renews leases")]
    Start {
        #[source]
        source: std::io::Error,
    },
    #[error("the consumer of queue `{queue}` ended by itself: {reason}")]
    Unasked { queue: String, reason: String },
}

impl Consumer {
    /// Works until `shutdown`, then drains: claims nothing more, gives handlers
    /// `grace` to finish, cancels those that have not, gives their jobs back without
    /// counting an attempt. Redis may be down at the start and at any time.
    ///
    /// Dropping the future ends everything at once, as a crash would: leases run
    /// out, jobs run elsewhere.
    ///
    /// # Errors
    /// When it ended and nobody asked; never because of Redis.
    pub async fn run<H: Handler>(
        self,
        handler: H,
        shutdown: CancellationToken,
        health: ConsumerHealth,
    ) -> Result<(), ConsumerEnded> {
        let settings = self.queue.settings().clone();
        let slots = self.slots.max(1);
        let over = Over(Arc::new(Shared::new(
            self.queue,
            self.worker,
            slots,
            health,
        )));
        let shared = &over.0;
        shared
            .health
            .begin(shared.queue.connection.limit() + Duration::from_secs(7));

        let off_the_list = lease_keeper::start(Arc::clone(shared))
            .map_err(|source| ConsumerEnded::Start { source })?;
        let wake = Arc::new(Notify::new());
        tokio::spawn(wake::listen(Arc::clone(shared), Arc::clone(&wake)));
        let knows = handler.clone();
        let mut claiming = tokio::spawn(claim_until_drained(
            Arc::clone(shared),
            Box::new(move |name, version| knows.knows(name, version)),
            wake,
        ));

        let parts = Arc::clone(shared);
        let monitor = Monitor::new().register(move |_restarts| {
            WorkerBuilder::new(parts.worker.id.as_str())
                .backend(RedisBackend::new(Arc::clone(&parts)))
                // Each handler is a task of its own: one that computes does not
                // hold up the others, and one that panics ends alone.
                .parallelize(tokio::spawn)
                .build(HandlerService {
                    handler: handler.clone(),
                    shared: Arc::clone(&parts),
                })
        });
        let context = monitor.context();
        let working = monitor.run();
        tokio::pin!(working);

        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            ended = &mut working => {
                return Err(shared.ended_by_itself(&match ended {
                    Ok(()) => "its worker stopped".to_owned(),
                    Err(error) => error.to_string(),
                }));
            }
            // apalis would wait for jobs for ever.
            ended = &mut claiming => {
                return Err(shared.ended_by_itself(&match ended {
                    Ok(()) => "its claimer stopped".to_owned(),
                    Err(error) => error.to_string(),
                }));
            }
        }

        shared.health.drain();
        shared.drain.cancel();
        if context.shutdown().is_err() {
            tracing::warn!("apalis could not be told to shut down");
        }
        if tokio::time::timeout(self.grace, &mut working)
            .await
            .is_err()
        {
            shared.leases.stop_all(Why::Drained);
            // Time to return, to be dropped, and for the acknowledgement.
            let last = settings.cancel_grace + Duration::from_secs(3);
            if tokio::time::timeout(last, &mut working).await.is_err() {
                let left = shared.leases.all().len();
                tracing::warn!(
                    jobs = left,
                    "handlers did not stop; their leases run out and their jobs run elsewhere"
                );
            }
        }
        shared.health.shut_down();
        drop(over);
        // Bounded by the connection's limit; the list is not worth waiting for.
        drop(tokio::time::timeout(Duration::from_secs(1), off_the_list).await);
        Ok(())
    }
}

impl Shared {
    fn ended_by_itself(&self, reason: &str) -> ConsumerEnded {
        self.health.end(reason);
        ConsumerEnded::Unasked {
            queue: self.queue.name().to_string(),
            reason: reason.to_owned(),
        }
    }
}

/// Ends all parts when the consumer ends, also by being dropped or by a panic.
struct Over(Arc<Shared>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.health.end("it was dropped");
        self.0.drain.cancel();
        self.0.closed.cancel();
        self.0.leases.stop_all(Why::Lost);
    }
}
