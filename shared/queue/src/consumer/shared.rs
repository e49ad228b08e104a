use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::health::ConsumerHealth;
use super::identity::WorkerIdentity;
use super::leases::{Lease, Leases};
use crate::error::QueueError;
use crate::job::Job;
use crate::queue::Queue;
use crate::scripts::arguments;
use walferry_killpoint::kill_point;

/// What the parts of one consumer share.
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) worker: WorkerIdentity,
    pub(super) slots: usize,
    pub(super) leases: Leases,
    /// Claimed and not yet taken by apalis. Never longer than there are free
    /// slots: each entry holds one.
    handoff: Mutex<VecDeque<Claimed>>,
    pub(super) waker: AtomicWaker,
    pub(super) claimer_gone: AtomicBool,
    /// No more claims; handlers may finish.
    pub(super) drain: CancellationToken,
    /// It is over: no more renewals either.
    pub(super) closed: CancellationToken,
    pub(super) health: ConsumerHealth,
}

/// A job on its way to a handler.
pub(super) struct Claimed {
    pub(super) job: Job,
    pub(super) claim: Arc<Claim>,
}

/// A lease with the slot that it occupies. Dropped after the acknowledgement, or
/// when the consumer is torn down: the lease is then no longer renewed.
pub(super) struct Claim {
    pub(super) lease: Arc<Lease>,
    shared: Arc<Shared>,
    _slot: OwnedSemaphorePermit,
}

/// How a run ended, as the script `finish` takes it.
pub(super) struct Ending {
    pub(super) outcome: &'static str,
    pub(super) message: String,
    pub(super) delay: Duration,
    pub(super) unknown: bool,
}

impl Shared {
    pub(super) fn new(
        queue: Queue,
        worker: WorkerIdentity,
        slots: usize,
        health: ConsumerHealth,
    ) -> Self {
        Self {
            queue,
            worker,
            slots,
            leases: Leases::default(),
            handoff: Mutex::default(),
            waker: AtomicWaker::new(),
            claimer_gone: AtomicBool::new(false),
            drain: CancellationToken::new(),
            closed: CancellationToken::new(),
            health,
        }
    }

    pub(super) fn hand_out(self: &Arc<Self>, job: Job, lease: Lease, slot: OwnedSemaphorePermit) {
        let lease = Arc::new(lease);
        self.leases.add(Arc::clone(&lease));
        let claim = Arc::new(Claim {
            lease,
            shared: Arc::clone(self),
            _slot: slot,
        });
        self.waiting().push_back(Claimed { job, claim });
        self.waker.wake();
    }

    pub(super) fn take(&self) -> Option<Claimed> {
        self.waiting().pop_front()
    }

    pub(super) fn claimer_is_gone(&self) -> bool {
        self.claimer_gone.load(Ordering::Acquire)
    }

    /// One try to end a run; returns what the script says.
    pub(super) async fn finish(
        &self,
        lease: &Lease,
        ending: &Ending,
    ) -> Result<String, QueueError> {
        let settings = self.queue.settings();
        let unknown_limit = if ending.unknown {
            i64::try_from(settings.unknown_job_limit.as_millis()).unwrap_or(i64::MAX)
        } else {
            -1
        };
        let arguments = arguments![
            lease.id,
            self.worker.id,
            lease.epoch,
            ending.outcome,
            ending.message,
            ending.delay.as_millis(),
            settings.done_cap,
            settings.dead_cap,
            unknown_limit,
        ];
        self.queue.run(&self.queue.scripts.finish, &arguments).await
    }

    /// Ends a run, through any fault of Redis, as long as the lease may still be
    /// ours. Beyond that it is dropped: the lease runs out and the job runs again,
    /// which is what would have happened had this worker crashed.
    pub(super) async fn finish_persistently(&self, lease: &Lease, ending: &Ending) -> Finished {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(50);
        lease.ends();
        loop {
            if lease.is_lost() {
                return Finished::Lost;
            }
            kill_point!("queue.acknowledge.before");
            match self.finish(lease, ending).await {
                Ok(answer) if answer == "lost" => return Finished::Lost,
                Ok(answer) => {
                    kill_point!("queue.acknowledge.after");
                    return Finished::As(answer);
                }
                Err(error) => {
                    if begun.elapsed() > self.queue.settings().lease * 2 {
                        return Finished::Failed(error);
                    }
                    tracing::debug!(job.id = %lease.id, %error, "acknowledgement failed, will be repeated");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Claimed>> {
        self.handoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of an acknowledgement.
pub(super) enum Finished {
    /// The job's new state.
    As(String),
    Lost,
    Failed(QueueError),
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.leases.remove(&self.lease);
    }
}
