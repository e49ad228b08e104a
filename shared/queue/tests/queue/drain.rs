use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::Semaphore;
use walferry_queue::{JobState, Outcome};

use crate::proxy::Proxy;
use crate::world::{Diary, Worker, World, eventually, quick};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_the_handler_and_keeps_its_lease() {
    let world = World::new();
    let id = world.add("slow").await;
    let diary = Diary::default();
    let notes = diary.clone();
    let lease = quick().lease;
    let leaving = world.worker(move |_, context| {
        let notes = notes.clone();
        async move {
            notes.write("began");
            context.drain.cancelled().await;
            tokio::time::sleep(lease * 2).await;
            assert!(!context.cancel.is_cancelled());
            notes.write("finished");
            Outcome::Done
        }
    });
    diary.until(1).await;
    let waiting = world.add("next").await;
    leaving.shutdown.cancel();
    let notes = diary.clone();
    let staying = world.worker(move |job, _| {
        notes.write(format!("other worker: {} {}", job.name, job.attempt));
        async { Outcome::Done }
    });
    assert_eq!(
        world.until_state(&waiting, JobState::Done).await.attempts,
        1
    );
    leaving.stop().await;
    let done = world.show(&id).await;
    assert_eq!((done.state, done.attempts), (JobState::Done, 1));
    assert_eq!(diary.read(), ["began", "other worker: next 1", "finished"]);
    staying.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_outlast_the_grace_are_cancelled_and_their_jobs_given_back() {
    let world = World::new();
    let obedient = world.add("obedient").await;
    let deaf = world.add("deaf").await;
    let diary = Diary::default();
    let notes = diary.clone();
    let grace = Duration::from_millis(200);
    let leaving = Worker::start(&world.queue, 2, grace, move |job, context| {
        let notes = notes.clone();
        async move {
            notes.write("began");
            if job.name == "deaf" {
                std::future::pending::<()>().await;
            }
            context.cancel.cancelled().await;
            Outcome::Retry {
                error: "I was interrupted".into(),
                after: None,
            }
        }
    });
    diary.until(2).await;
    let begun = Instant::now();
    leaving.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    for id in [&obedient, &deaf] {
        let view = world.show(id).await;
        assert_eq!((view.state, view.attempts), (JobState::Ready, 0));
        assert_eq!(view.error.as_deref(), Some("its worker shut down"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_under_way_when_the_drain_begins_is_given_back() {
    let world = World::new();
    let proxy = Proxy::before(world.redis.port).await;
    let worker = Worker::start(
        &proxy.queue(quick()),
        1,
        Duration::from_secs(5),
        |_, _| async { panic!("no handler may begin") },
    );
    eventually("the worker asks", async || worker.health.ready().ok()).await;
    proxy.hold_replies();
    let id = world.add("between").await;
    let leased = world.until_state(&id, JobState::Leased).await;
    assert_eq!(leased.attempts, 1);
    worker.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    proxy.release();
    worker.stop().await;
    let view = world.show(&id).await;
    assert_eq!((view.state, view.attempts), (JobState::Ready, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_come_and_go_lose_no_job_and_count_no_attempt() {
    let world = World::new();
    let diary = Diary::default();
    let mut jobs = Vec::new();
    for n in 0..300 {
        jobs.push(world.add(&n.to_string()).await);
    }
    let mut generations = 0;
    while diary.read().len() < jobs.len() {
        let notes = diary.clone();
        let worker = world.worker_with_slots(3, move |job, _| {
            notes.write(job.name);
            async {
                tokio::time::sleep(Duration::from_millis(2)).await;
                Outcome::Done
            }
        });
        tokio::time::sleep(Duration::from_millis(fastrand::u64(10..40))).await;
        worker.stop().await;
        generations += 1;
        assert!(generations < 500, "only {} jobs ran", diary.read().len());
    }
    let mut ran = diary.read();
    ran.sort();
    ran.dedup();
    assert_eq!(ran.len(), jobs.len());
    for id in &jobs {
        let view = world.show(id).await;
        assert_eq!((view.state, view.attempts), (JobState::Done, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_with_redis_away_ends_all_the_same() {
    let mut world = World::new();
    world.leases_may_stay = true;
    let proxy = Proxy::before(world.redis.port).await;
    let gate = Arc::new(Semaphore::new(0));
    let (diary, door) = (Diary::default(), Arc::clone(&gate));
    let notes = diary.clone();
    let worker = Worker::start(
        &proxy.queue(quick()),
        2,
        Duration::from_secs(5),
        move |_, _| {
            notes.write("began");
            let door = Arc::clone(&door);
            async move {
                door.acquire().await.unwrap().forget();
                Outcome::Done
            }
        },
    );
    world.add("work").await;
    diary.until(1).await;
    world.redis.signal(Signal::STOP);
    gate.add_permits(1);
    let begun = Instant::now();
    worker.stop().await;
    let took = begun.elapsed();
    world.redis.signal(Signal::CONT);
    // The acknowledgement is given up with the lease, the claim after as long.
    assert!(took < Duration::from_secs(6), "{took:?}");
}
