use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use walferry_queue::{Enqueued, IfRunning, JobState, NewJob, Outcome};

use crate::world::{Diary, World, eventually, job};

fn keyed(key: &str) -> NewJob {
    let mut new = job("keyed");
    new.unique_key = Some(key.to_owned());
    new.max_attempts = Some(1);
    new
}

fn again(key: &str) -> NewJob {
    NewJob {
        if_running: IfRunning::Again,
        ..keyed(key)
    }
}

fn taken(world: &World, key: &str) -> bool {
    redis::cmd("EXISTS")
        .arg(world.key(&format!("uniq:{key}")))
        .query(&mut world.redis.raw())
        .unwrap()
}

/// A worker whose handler notes its job and ends as the gate says.
struct Gated {
    diary: Diary,
    gate: Arc<Semaphore>,
}

impl Gated {
    fn new() -> Self {
        Self {
            diary: Diary::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    fn worker(&self, world: &World, outcome: Outcome) -> crate::world::Worker {
        let (notes, door) = (self.diary.clone(), Arc::clone(&self.gate));
        world.worker(move |job, context| {
            notes.write(job.id.to_string());
            let (door, outcome) = (Arc::clone(&door), outcome.clone());
            async move {
                tokio::select! {
                    () = context.cancel.cancelled() => {}
                    permit = door.acquire() => permit.unwrap().forget(),
                }
                outcome
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_producers_of_one_slot_one_adds_the_job() {
    let world = World::new();
    let other = crate::world::queue_on(&world.redis, crate::world::quick());
    let tries = (0..40).map(|n| {
        let queue = if n % 2 == 0 { &world.queue } else { &other };
        queue.enqueue(keyed("slot-1"))
    });
    let results = futures::future::join_all(tries).await;
    let added = results
        .iter()
        .filter(|r| matches!(r, Ok(Enqueued::Added(_))))
        .count();
    let duplicates = results
        .iter()
        .filter(|r| matches!(r, Ok(Enqueued::Duplicate(_))))
        .count();
    assert_eq!((added, duplicates), (1, 39));
    assert!(matches!(
        other.enqueue(keyed("slot-2")).await,
        Ok(Enqueued::Added(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stays_taken_through_waiting_running_and_retrying() {
    let world = World::new();
    let mut new = keyed("k");
    new.max_attempts = Some(2);
    let id = world.add_job(new).await;
    let taken = Enqueued::Duplicate(id.clone());
    assert_eq!(world.queue.enqueue(keyed("k")).await.unwrap(), taken);

    let gated = Gated::new();
    let failed = Outcome::Retry {
        error: "no".into(),
        after: Some(Duration::from_secs(600)),
    };
    let worker = gated.worker(&world, failed);
    gated.diary.until(1).await;
    assert_eq!(world.queue.enqueue(keyed("k")).await.unwrap(), taken);

    gated.gate.add_permits(1);
    world.until_state(&id, JobState::Delayed).await;
    assert_eq!(world.queue.enqueue(keyed("k")).await.unwrap(), taken);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_free_the_moment_its_job_is_done_dead_cancelled_or_killed() {
    let world = World::new();
    for outcome in [Outcome::Done, Outcome::Dead { error: "no".into() }] {
        let gated = Gated::new();
        let id = world.add_job(keyed("k")).await;
        let worker = gated.worker(&world, outcome.clone());
        gated.gate.add_permits(1);
        let ended = if outcome == Outcome::Done {
            JobState::Done
        } else {
            JobState::Dead
        };
        world.until_state(&id, ended).await;
        assert!(!taken(&world, "k"));
        worker.stop().await;
        let next = world.add_job(keyed("k")).await;
        world.queue.cancel(&next).await.unwrap();
        assert!(!taken(&world, "k"));
        let next = world.add_job(keyed("k")).await;
        world.queue.kill(&next).await.unwrap();
        assert!(!taken(&world, "k"));
    }
    // Running, cancelled: free with its end, not with the wish.
    let gated = Gated::new();
    let id = world.add_job(keyed("k")).await;
    let worker = gated.worker(
        &world,
        Outcome::Retry {
            error: "cancelled".into(),
            after: None,
        },
    );
    gated.diary.until(1).await;
    world.queue.cancel(&id).await.unwrap();
    world.until_state(&id, JobState::Cancelled).await;
    assert!(!taken(&world, "k"));
    worker.stop().await;
    world.add_job(keyed("k")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_while_it_runs_runs_once_more() {
    let world = World::new();
    let first = world.add_job(again("watch")).await;
    let gated = Gated::new();
    let worker = gated.worker(&world, Outcome::Done);
    gated.diary.until(1).await;
    for _ in 0..5 {
        let answer = world.queue.enqueue(again("watch")).await.unwrap();
        assert_eq!(answer, Enqueued::Again(first.clone()));
    }
    assert_eq!(world.queue.stats().await.unwrap().ready, 0);
    gated.gate.add_permits(1);
    gated.diary.until(2).await;
    // The second one holds the key now; nobody asked while it runs.
    assert!(matches!(
        world.queue.enqueue(keyed("watch")).await,
        Ok(Enqueued::Duplicate(_))
    ));
    gated.gate.add_permits(1);
    eventually("both are done", async || {
        (world.queue.stats().await.ok()?.done == 2).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(gated.diary.read().len(), 2);
    assert_eq!(world.queue.stats().await.unwrap().ready, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_survives_the_death_of_the_running_job() {
    let world = World::new();
    let first = world.add_job(again("watch")).await;
    let gated = Gated::new();
    let worker = gated.worker(&world, Outcome::Dead { error: "no".into() });
    gated.diary.until(1).await;
    world.queue.enqueue(again("watch")).await.unwrap();
    gated.gate.add_permits(1);
    world.until_state(&first, JobState::Dead).await;
    gated.diary.until(2).await;
    gated.gate.add_permits(1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_attempt_is_what_was_asked_for() {
    let world = World::new();
    let mut new = again("watch");
    new.max_attempts = Some(5);
    let first = world.add_job(new).await;
    let (diary, gate) = (Diary::default(), Arc::new(Semaphore::new(0)));
    let (notes, door) = (diary.clone(), Arc::clone(&gate));
    let worker = world.worker(move |job, _| {
        notes.write(job.attempt.to_string());
        let door = Arc::clone(&door);
        async move {
            door.acquire().await.unwrap().forget();
            if job.attempt == 1 {
                Outcome::Retry {
                    error: "once".into(),
                    after: None,
                }
            } else {
                Outcome::Done
            }
        }
    });
    diary.until(1).await;
    world.queue.enqueue(again("watch")).await.unwrap();
    gate.add_permits(2);
    world.until_state(&first, JobState::Done).await;
    worker.stop().await;
    assert_eq!(diary.read(), ["1", "2"]);
    assert_eq!(world.queue.stats().await.unwrap().ready, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_stays_filled_for_a_while_after_its_job_is_done() {
    let world = World::new();
    let slot = NewJob {
        keep_key: Duration::from_millis(600),
        ..keyed("slot")
    };
    let id = world.add_job(slot.clone()).await;
    let worker = world.worker(|_, _| async { Outcome::Done });
    world.until_state(&id, JobState::Done).await;
    // The second scheduler is a little late for the same slot.
    assert_eq!(
        world.queue.enqueue(slot.clone()).await.unwrap(),
        Enqueued::Duplicate(id)
    );
    eventually("the slot is free again", async || {
        matches!(
            world.queue.enqueue(slot.clone()).await,
            Ok(Enqueued::Added(_))
        )
        .then_some(())
    })
    .await;
    eventually("the new one is done", async || {
        (world.queue.stats().await.ok()?.done == 2).then_some(())
    })
    .await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_job_was_deleted_by_hand_does_not_block() {
    let world = World::new();
    let id = world.add_job(keyed("k")).await;
    let mut redis = world.redis.raw();
    redis::cmd("DEL")
        .arg(world.key(&format!("task:{id}")))
        .exec(&mut redis)
        .unwrap();
    let next = world.add_job(keyed("k")).await;
    let worker = world.worker(|_, _| async { Outcome::Done });
    world.until_state(&next, JobState::Done).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_sooner_does_not_wait_for_what_was_wanted_later() {
    let world = World::new();
    let wish = |seconds| NewJob {
        delay: Duration::from_secs(seconds),
        ..again("follow-up")
    };
    let id = world.add_job(wish(600)).await;
    let due_in = async || {
        let view = world.show(&id).await;
        assert_eq!(view.state, JobState::Delayed);
        view.at.unwrap() - view.enqueued_at
    };
    for (asked, within) in [(60, 100), (900, 100)] {
        let answer = world.queue.enqueue(wish(asked)).await.unwrap();
        assert_eq!(answer, Enqueued::Duplicate(id.clone()));
        let due = due_in().await;
        assert!(due.num_seconds() <= within, "asked for {asked} s: {due}");
    }
    // A slot of a schedule is content with the job that is there.
    world.queue.enqueue(keyed("follow-up")).await.unwrap();
    due_in().await;
    world.queue.enqueue(wish(0)).await.unwrap();
    assert_eq!(world.show(&id).await.state, JobState::Ready);
    let worker = world.worker(|_, _| async { Outcome::Done });
    world.until_state(&id, JobState::Done).await;
    worker.stop().await;
    assert_eq!(world.queue.stats().await.unwrap().done, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_off_is_not_cut_short_by_a_wish() {
    let world = World::new();
    let mut new = again("follow-up");
    new.max_attempts = Some(2);
    let id = world.add_job(new).await;
    let worker = world.worker(|_, _| async {
        Outcome::Retry {
            error: "no catalog".into(),
            after: Some(Duration::from_secs(600)),
        }
    });
    world.until_state(&id, JobState::Delayed).await;
    world.queue.enqueue(again("follow-up")).await.unwrap();
    let view = world.show(&id).await;
    assert_eq!((view.state, view.attempts), (JobState::Delayed, 1));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_wishes_while_it_runs_the_soonest_is_kept() {
    let world = World::new();
    let first = world.add_job(again("follow-up")).await;
    let gated = Gated::new();
    let worker = gated.worker(&world, Outcome::Done);
    gated.diary.until(1).await;
    for seconds in [300, 0, 600] {
        let wish = NewJob {
            delay: Duration::from_secs(seconds),
            ..again("follow-up")
        };
        let answer = world.queue.enqueue(wish).await.unwrap();
        assert_eq!(answer, Enqueued::Again(first.clone()));
    }
    gated.gate.add_permits(2);
    gated.diary.until(2).await;
    worker.stop().await;
    assert_eq!(world.queue.stats().await.unwrap().delayed, 0);
}
