use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::Semaphore;
use walferry_queue::{JobState, NewJob, Outcome, Priority, QueueSettings};

use crate::world::{Diary, World, eventually, job};

fn with_priority(name: &str, priority: u8) -> NewJob {
    let mut new = job(name);
    new.priority = Priority::try_from(priority).unwrap();
    new
}

async fn order_of(world: &World, priorities: &[u8]) -> Vec<String> {
    for (index, priority) in priorities.iter().enumerate() {
        world
            .add_job(with_priority(&format!("{priority}-{index}"), *priority))
            .await;
    }
    let diary = Diary::default();
    let notes = diary.clone();
    let worker = world.worker(move |job, _| {
        notes.write(job.name);
        async { Outcome::Done }
    });
    diary.until(priorities.len()).await;
    // A drain waits for what is in hand; whatever else is ready has run before.
    eventually("nothing is ready", async || {
        (world.queue.stats().await.ok()?.ready == 0).then_some(())
    })
    .await;
    worker.stop().await;
    diary.read()
}

#[test]
fn jobs_are_taken_by_priority_and_first_in_first_out_within_one() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(async { World::new() });
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&proptest::collection::vec(0_u8..=10, 1..60), |priorities| {
            let order = runtime.block_on(order_of(&world, &priorities));
            let mut expected: Vec<_> = priorities.iter().enumerate().collect();
            expected.sort_by_key(|(index, priority)| (10 - **priority, *index));
            let expected: Vec<_> = expected.iter().map(|(i, p)| format!("{p}-{i}")).collect();
            prop_assert_eq!(order, expected);
            Ok(())
        })
        .unwrap();
}

#[test]
fn scores_keep_their_order_after_a_million_million_jobs() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = World::new();
        // From the early days, when sequence numbers were small.
        world.add_job(with_priority("9-old", 9)).await;
        let mut redis = world.redis.raw();
        let last_of_a_band: i64 = (1 << 40) - 8;
        redis::cmd("SET")
            .arg(world.key("seq"))
            .arg(last_of_a_band)
            .exec(&mut redis)
            .unwrap();
        let order = order_of(&world, &[0, 10, 9, 10, 0, 1]).await;
        assert_eq!(order, ["10-1", "10-3", "9-old", "9-2", "1-5", "0-0", "0-4"]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_job_overtakes_a_backlog_at_the_next_free_slot() {
    let world = World::new();
    for _ in 0..100 {
        world.add_job(with_priority("backlog", 3)).await;
    }
    let (diary, gate) = (Diary::default(), Arc::new(Semaphore::new(0)));
    let (notes, door) = (diary.clone(), Arc::clone(&gate));
    let worker = world.worker_with_slots(2, move |job, _| {
        notes.write(job.name);
        let door = Arc::clone(&door);
        async move {
            door.acquire().await.unwrap().forget();
            Outcome::Done
        }
    });
    diary.until(2).await;
    world.add_job(with_priority("urgent", 10)).await;
    gate.add_permits(1);
    assert_eq!(diary.until(3).await[2], "urgent");
    gate.add_permits(1000);
    diary.until(101).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_no_more_than_it_has_slots_for() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let (diary, door) = (Diary::default(), Arc::clone(&gate));
    let notes = diary.clone();
    for _ in 0..5 {
        world.add("work").await;
    }
    let busy = world.worker_with_slots(2, move |_, _| {
        notes.write("busy");
        let door = Arc::clone(&door);
        async move {
            door.acquire().await.unwrap().forget();
            Outcome::Done
        }
    });
    diary.until(2).await;
    // It goes on turning; after some of its rounds still nothing more is taken.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stats = world.queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.leased), (3, 2));
    // Another worker gets the rest while the first one is busy.
    let notes = diary.clone();
    let idle = world.worker(move |_, _| {
        notes.write("idle");
        async { Outcome::Done }
    });
    assert_eq!(diary.until(5).await[2..], ["idle", "idle", "idle"]);
    gate.add_permits(2);
    busy.stop().await;
    idle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_given_back_keeps_its_place_and_its_attempts() {
    let world = World::new();
    let first = world.add("first").await;
    world.add("second").await;
    let diary = Diary::default();
    let notes = diary.clone();
    let worker = world.worker(move |job, _| {
        let seen = notes.read().len();
        notes.write(format!("{} {}", job.name, job.attempt));
        async move {
            if seen == 0 {
                Outcome::GiveBack {
                    delay: Duration::ZERO,
                    reason: "not now".into(),
                }
            } else {
                Outcome::Done
            }
        }
    });
    assert_eq!(diary.until(3).await, ["first 1", "first 1", "second 1"]);
    world.until_state(&first, JobState::Done).await;
    worker.stop().await;
}

async fn pick_up_ten(world: &World) {
    let diary = Diary::default();
    let notes = diary.clone();
    let worker = world.worker(move |job, _| {
        notes.write(format!("{}", job.waited <= Duration::from_millis(500)));
        async { Outcome::Done }
    });
    eventually("the worker asks", async || worker.health.ready().ok()).await;
    for jobs in 1..=10 {
        world.add("now").await;
        assert_eq!(diary.until(jobs).await[jobs - 1], "true");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_picks_a_job_up_within_half_a_second_by_default() {
    pick_up_ten(&World::with(QueueSettings::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn picking_up_in_time_does_not_depend_on_being_woken() {
    let world = World::with(QueueSettings::default());
    redis::cmd("ACL")
        .arg(&["SETUSER", "default", "-subscribe"])
        .exec(&mut world.redis.raw())
        .unwrap();
    pick_up_ten(&world).await;
}
