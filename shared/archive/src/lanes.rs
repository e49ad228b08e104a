//! Room in memory, per repository and for the segments on their way.
//!
//! Admission bounds how many segments are read and packed at once. A segment gives
//! its admission back as soon as one repository has finished with it and the others have
//! begun, so a slow cloud never takes the room of a fast one. Each repository has a lane
//! with as many places and a share of the memory. What is packed holds its size in memory
//! until its last upload has ended; a copy that waits in front of its lane gives way when
//! the lane stands still or somebody else needs the memory: it loses its place in memory,
//! not its copy, which stays due and is made later from the other cloud.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use walferry_proof::RepositoryName;

/// A lane that finished nothing for this long stands still: nobody waits for it.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(1);
/// Who needs memory and finds none asks a waiting copy to give way this often.
const ASKS_EVERY: Duration = Duration::from_millis(100);
/// Memory is counted in units of this many bytes: a semaphore holds 2^29 permits on 32 bits.
const UNIT: u64 = 1 << 10;

/// The bounded rooms of one worker. Cheap to clone.
#[derive(Clone)]
pub struct Lanes {
    admission: Arc<Semaphore>,
    lanes: Arc<BTreeMap<RepositoryName, Arc<Lane>>>,
    memory: Room,
    give_way: Arc<GiveWay>,
}

struct Lane {
    places: Arc<Semaphore>,
    memory: Room,
    last_left: Mutex<Instant>,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct GiveWay {
    asked: Notify,
    /// Copies that could.
    able: AtomicUsize,
}

/// Room for one segment: given back when dropped.
pub struct Admission(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Memory that is spoken for: given back when dropped.
pub struct Reserved(OwnedSemaphorePermit);

/// A place in a lane: given back when dropped.
pub struct Place {
    lane: Arc<Lane>,
    #[expect(dead_code, reason = "held for its drop")]
    permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Lanes {
    /// `in_flight` segments admitted, and as many uploads per repository, at least one each;
    /// `memory` bytes for what is packed.
    pub fn new(
        in_flight: usize,
        memory: u64,
        repositories: impl IntoIterator<Item = RepositoryName>,
    ) -> Self {
        let places = in_flight.max(1);
        let names: Vec<RepositoryName> = repositories.into_iter().collect();
        // One share is left when every lane but one stands still with its own full. A smaller
        // one would make copies give way in front of a fast lane behind one large body.
        let share = memory / (names.len() as u64).max(1);
        let lane = || Lane {
            places: Arc::new(Semaphore::new(places)),
            memory: Room::new(share),
            last_left: Mutex::new(Instant::now()),
            waiting: AtomicUsize::new(0),
        };
        Self {
            admission: Arc::new(Semaphore::new(places)),
            lanes: Arc::new(
                names
                    .into_iter()
                    .map(|name| (name, Arc::new(lane())))
                    .collect(),
            ),
            memory: Room::new(memory),
            give_way: Arc::default(),
        }
    }

    /// Waits for room for one more segment.
    pub async fn admit(&self) -> Admission {
        Admission(acquire(&self.admission, 1).await)
    }

    /// Room for one more segment, if there is some now.
    #[must_use]
    pub fn try_admit(&self) -> Option<Admission> {
        Arc::clone(&self.admission)
            .try_acquire_owned()
            .ok()
            .map(Admission)
    }

    /// Waits for memory for `bytes`; copies that wait for their lane are asked to give way.
    /// More than all of it is cut to all of it.
    pub async fn reserve(&self, bytes: u64) -> Reserved {
        let acquiring = self.memory.take(bytes);
        tokio::pin!(acquiring);
        loop {
            tokio::select! {
                biased;
                permit = &mut acquiring => return Reserved(permit),
                () = tokio::time::sleep(ASKS_EVERY) => {
                    if self.give_way.able.load(Ordering::Relaxed) > 0 {
                        self.give_way.asked.notify_one();
                    }
                }
            }
        }
    }

    /// Whether a further upload to `repository` could start now.
    #[must_use]
    pub fn has_room(&self, repository: &RepositoryName) -> bool {
        self.lanes.get(repository).is_some_and(|lane| {
            lane.places.available_permits() > lane.waiting.load(Ordering::Relaxed)
        })
    }

    /// Waits for a place for `bytes` in the lane of `repository`; `None` when it has no
    /// lane here.
    pub async fn enter(&self, repository: &RepositoryName, bytes: u64) -> Option<Place> {
        let lane = Arc::clone(self.lanes.get(repository)?);
        let waiting = Counted::new(&lane.waiting);
        let permits = (
            acquire(&lane.places, 1).await,
            lane.memory.take(bytes).await,
        );
        drop(waiting);
        Some(Place { lane, permits })
    }

    /// Returns once a copy that waits for the lane of `repository` should wait no more: the
    /// lane has stood still for a second, or the memory is needed.
    pub async fn has_to_give_way(&self, repository: &RepositoryName) {
        let _able = Counted::new(&self.give_way.able);
        tokio::select! {
            () = self.stands_still(repository) => {}
            () = self.give_way.asked.notified() => {}
        }
    }

    async fn stands_still(&self, repository: &RepositoryName) {
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

impl Reserved {
    /// Gives back all but `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        let excess = self.0.num_permits() as u64 - units(bytes).min(self.0.num_permits() as u64);
        drop(self.0.split(usize::try_from(excess).unwrap_or(0)));
    }
}

/// Bytes that are handed out in units.
#[derive(Clone)]
struct Room {
    units: Arc<Semaphore>,
    all: u32,
}

impl Room {
    fn new(bytes: u64) -> Self {
        // Under every platform's limit, and far over every machine's memory: 512 GiB.
        let all = u32::try_from(units(bytes)).map_or(1 << 29, |all| all.min(1 << 29));
        Self {
            units: Arc::new(Semaphore::new(all as usize)),
            all,
        }
    }

    async fn take(&self, bytes: u64) -> OwnedSemaphorePermit {
        let wanted = u32::try_from(units(bytes)).map_or(self.all, |wanted| wanted.min(self.all));
        acquire(&self.units, wanted).await
    }
}

fn units(bytes: u64) -> u64 {
    bytes.div_ceil(UNIT).max(1)
}

async fn acquire(semaphore: &Arc<Semaphore>, permits: u32) -> OwnedSemaphorePermit {
    Arc::clone(semaphore)
        .acquire_many_owned(permits)
        .await
        .expect("our semaphores are never closed")
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

struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn name() -> RepositoryName {
        "r2".parse().expect("a name")
    }

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(5), future)
            .await
            .expect("within 5 s")
    }

    #[tokio::test]
    async fn a_full_lane_has_no_room_and_is_seen_to_stand_still() {
        let lanes = Lanes::new(1, 64 * MIB, [name()]);
        let place = lanes.enter(&name(), MIB).await.expect("the lane exists");
        assert!(!lanes.has_room(&name()));
        soon(lanes.has_to_give_way(&name())).await;
        drop(place);
        assert!(lanes.has_room(&name()));
    }

    #[tokio::test]
    async fn packed_segments_never_hold_more_than_the_memory_and_shrinking_gives_it_back() {
        let lanes = Lanes::new(8, 64 * MIB, [name()]);
        let mut first = lanes.reserve(40 * MIB).await;
        let second = lanes.reserve(40 * MIB);
        tokio::pin!(second);
        tokio::time::timeout(Duration::from_millis(300), &mut second)
            .await
            .map(drop)
            .expect_err("80 MiB do not fit into 64");
        first.shrink(MIB);
        drop(soon(second).await);
        drop(first);
        // More than all of it is cut to all of it, or nobody could ever have it.
        soon(lanes.reserve(u64::MAX)).await;
    }

    #[tokio::test]
    async fn a_waiting_copy_gives_way_when_memory_is_needed_although_its_lane_moves() {
        let lanes = Lanes::new(8, 64 * MIB, [name()]);
        let held = lanes.reserve(64 * MIB).await;
        let mover = lanes.clone();
        let moving = tokio::spawn(async move {
            loop {
                drop(mover.enter(&name(), 1).await);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let waiting = async {
            lanes.has_to_give_way(&name()).await;
            drop(held);
        };
        soon(async { tokio::join!(waiting, lanes.reserve(MIB)) }).await;
        moving.abort();
    }

    #[tokio::test]
    async fn a_lane_takes_its_share_of_the_memory_and_no_more() {
        let other = "b2".parse().expect("a name");
        let lanes = Lanes::new(8, 64 * MIB, [name(), other]);
        let place = lanes.enter(&name(), 20 * MIB).await;
        tokio::time::timeout(Duration::from_millis(300), lanes.enter(&name(), 20 * MIB))
            .await
            .map(drop)
            .expect_err("a lane has 32 of 64 MiB");
        drop(place);
        soon(lanes.enter(&name(), 20 * MIB)).await;
    }
}
