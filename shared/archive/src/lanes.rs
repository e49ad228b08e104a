//! Room in memory, per repository and for the segments on their way.
//!
//! Admission bounds how many segments are read and packed at once. A segment gives
//! its admission back as soon as one repository has finished with it and the others have
//! begun, so a slow cloud never takes the room of a fast one. Each repository has a lane
//! with as many places; a copy that finds its lane full and standing still when another
//! repository is done loses its place in memory, not its copy: the copy stays due and is
//! made later from the other cloud.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use walferry_proof::RepositoryName;

/// A lane that finished nothing for this long stands still: nobody waits for it.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(1);

/// The bounded rooms of one worker. Cheap to clone.
#[derive(Clone)]
pub struct Lanes {
    admission: Arc<Semaphore>,
    lanes: Arc<BTreeMap<RepositoryName, Arc<Lane>>>,
}

struct Lane {
    places: Arc<Semaphore>,
    last_left: Mutex<Instant>,
    waiting: AtomicUsize,
}

/// Room for one segment: given back when dropped.
pub struct Admission(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A place in a lane: given back when dropped.
pub struct Place {
    lane: Arc<Lane>,
    #[expect(dead_code, reason = "held for its drop")]
    permit: OwnedSemaphorePermit,
}

impl Lanes {
    /// `in_flight` segments admitted, and as many uploads per repository. At least one each.
    pub fn new(in_flight: usize, repositories: impl IntoIterator<Item = RepositoryName>) -> Self {
        let places = in_flight.max(1);
        let lane = || Lane {
            places: Arc::new(Semaphore::new(places)),
            last_left: Mutex::new(Instant::now()),
            waiting: AtomicUsize::new(0),
        };
        Self {
            admission: Arc::new(Semaphore::new(places)),
            lanes: Arc::new(
                repositories
                    .into_iter()
                    .map(|name| (name, Arc::new(lane())))
                    .collect(),
            ),
        }
    }

    /// Waits for room for one more segment.
    pub async fn admit(&self) -> Admission {
        Admission(
            Arc::clone(&self.admission)
                .acquire_owned()
                .await
                .expect("the admission semaphore is never closed"),
        )
    }

    /// Room for one more segment, if there is some now.
    #[must_use]
    pub fn try_admit(&self) -> Option<Admission> {
        Arc::clone(&self.admission)
            .try_acquire_owned()
            .ok()
            .map(Admission)
    }

    /// Whether a further upload to `repository` could start now.
    #[must_use]
    pub fn has_room(&self, repository: &RepositoryName) -> bool {
        self.lanes.get(repository).is_some_and(|lane| {
            lane.places.available_permits() > lane.waiting.load(Ordering::Relaxed)
        })
    }

    /// Waits for a place in the lane of `repository`; `None` when it has no lane here.
    pub async fn enter(&self, repository: &RepositoryName) -> Option<Place> {
        let lane = Arc::clone(self.lanes.get(repository)?);
        let _waiting = Waiting::new(&lane);
        let permit = Arc::clone(&lane.places)
            .acquire_owned()
            .await
            .expect("a lane's semaphore is never closed");
        drop(_waiting);
        Some(Place { lane, permit })
    }

    /// Returns once the lane of `repository` has stood still for a second.
    pub async fn stands_still(&self, repository: &RepositoryName) {
        let Some(lane) = self.lanes.get(repository) else {
            return;
        };
        loop {
            let since = lane.last_left().elapsed();
            if since >= STANDS_STILL_AFTER {
                return;
            }
            tokio::time::sleep(STANDS_STILL_AFTER.saturating_sub(since)).await;
        }
    }
}

impl Lane {
    fn last_left(&self) -> Instant {
        *self
            .last_left
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self
            .lane
            .last_left
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

struct Waiting<'a>(&'a Lane);

impl<'a> Waiting<'a> {
    fn new(lane: &'a Lane) -> Self {
        lane.waiting.fetch_add(1, Ordering::Relaxed);
        Self(lane)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_lane_has_no_room_and_is_seen_to_stand_still() {
        let name: RepositoryName = "r2".parse().expect("a name");
        let lanes = Lanes::new(1, [name.clone()]);
        let place = lanes.enter(&name).await.expect("the lane exists");
        assert!(!lanes.has_room(&name));
        tokio::time::timeout(Duration::from_secs(5), lanes.stands_still(&name))
            .await
            .expect("nobody left the lane for a second");
        drop(place);
        assert!(lanes.has_room(&name));
    }
}
