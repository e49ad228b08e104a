use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::name::JobId;

/// The leases that this worker holds.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<Key, Arc<Lease>>>);

type Key = (JobId, u64);

/// One job in this worker's hands, from the claim to the acknowledgement.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) id: JobId,
    /// The how-manieth claim of this job it is; fences every later order.
    pub(super) epoch: u64,
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) started: Instant,
    /// The handler's sign to stop; `why` tells the reason.
    pub(super) cancel: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Its end is on the way to Redis: a renewal that is overtaken by it is no loss.
    ending: bool,
    /// Before the order that renewed it was sent, so that the lease is never
    /// believed to last longer than Redis keeps it.
    renewed: Instant,
    stopped: Option<(Why, Instant)>,
}

/// Why a handler was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody else may have the job by now.
    Lost,
    /// An operator cancelled it.
    Cancelled,
    TimedOut,
    /// The worker goes and its grace is over.
    Drained,
}

impl Lease {
    /// `asked` is when the claim was sent.
    pub(super) fn new(id: JobId, epoch: u64, name: String, attempt: u32, asked: Instant) -> Self {
        Self {
            id,
            epoch,
            name,
            attempt,
            started: Instant::now(),
            cancel: CancellationToken::new(),
            state: Mutex::new(State {
                ending: false,
                renewed: asked,
                stopped: None,
            }),
        }
    }

    /// Tells the handler to stop. A lost lease outweighs every other reason.
    pub(super) fn stop(&self, why: Why) {
        let mut state = self.state();
        match &mut state.stopped {
            None => state.stopped = Some((why, Instant::now())),
            Some((reason, _)) if why == Why::Lost => *reason = Why::Lost,
            Some(_) => return,
        }
        drop(state);
        self.cancel.cancel();
    }

    pub(super) fn why(&self) -> Option<Why> {
        self.state().stopped.map(|(why, _)| why)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.why() == Some(Why::Lost)
    }

    /// From now on it is the acknowledgement that learns whether the lease was lost.
    pub(super) fn ends(&self) {
        self.state().ending = true;
    }

    pub(super) fn is_ending(&self) -> bool {
        self.state().ending
    }

    /// Whether it is worth keeping. A handler that was told to stop and does not
    /// (it blocks its thread) loses its lease, so that the job can go on elsewhere.
    pub(super) fn worth_renewing(&self, patience: Duration) -> bool {
        match self.state().stopped {
            None => true,
            Some((Why::Lost, _)) => false,
            Some((_, since)) => since.elapsed() < patience,
        }
    }

    pub(super) fn renewed(&self, asked: Instant) {
        let mut state = self.state();
        state.renewed = state.renewed.max(asked);
    }

    pub(super) fn since_renewed(&self) -> Duration {
        self.state().renewed.elapsed()
    }

    fn key(&self) -> Key {
        (self.id.clone(), self.epoch)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leases {
    pub(super) fn add(&self, lease: Arc<Lease>) {
        self.all_mut().insert(lease.key(), lease);
    }

    pub(super) fn remove(&self, lease: &Lease) {
        self.all_mut().remove(&lease.key());
    }

    pub(super) fn all(&self) -> Vec<Arc<Lease>> {
        self.all_mut().values().cloned().collect()
    }

    pub(super) fn stop_all(&self, why: Why) {
        for lease in self.all() {
            lease.stop(why);
        }
    }

    fn all_mut(&self) -> MutexGuard<'_, HashMap<Key, Arc<Lease>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease::new(JobId::from("a"), 1, "job".into(), 1, Instant::now())
    }

    #[test]
    fn losing_a_lease_outweighs_the_other_reasons_to_stop() {
        let lease = lease();
        lease.stop(Why::Cancelled);
        lease.stop(Why::TimedOut);
        assert_eq!(lease.why(), Some(Why::Cancelled));
        lease.stop(Why::Lost);
        assert!(lease.is_lost());
        assert!(!lease.worth_renewing(Duration::MAX));
    }

    #[test]
    fn a_handler_that_does_not_stop_is_not_renewed_for_ever() {
        let lease = lease();
        assert!(lease.worth_renewing(Duration::ZERO));
        lease.stop(Why::TimedOut);
        assert!(lease.cancel.is_cancelled());
        assert!(lease.worth_renewing(Duration::from_secs(60)));
        assert!(!lease.worth_renewing(Duration::ZERO));
    }
}
