use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::Semaphore;
use walferry_queue::{JobState, NewJob, Outcome, Queue, QueueSettings};

use crate::child::WorkerProcess;
use crate::world::{Diary, Worker, World, eventually, job, quick};

fn work_for(ms: u64) -> NewJob {
    NewJob {
        args: serde_json::json!({ "work_ms": ms }),
        ..job("work")
    }
}

fn idle_worker(world: &World, diary: &Diary) -> Worker {
    let notes = diary.clone();
    world.worker(move |job, _| {
        notes.write(format!("idle {}", job.attempt));
        async { Outcome::Done }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_slower_than_its_lease_keeps_it() {
    let world = World::new();
    let diary = Diary::default();
    let id = world.add("slow").await;
    let notes = diary.clone();
    let lease = quick().lease;
    let slow = world.worker(move |_, context| {
        notes.write("slow");
        async move {
            tokio::time::sleep(lease * 5 / 2).await;
            assert!(!context.cancel.is_cancelled());
            Outcome::Done
        }
    });
    diary.until(1).await;
    let idle = idle_worker(&world, &diary);
    assert_eq!(world.until_state(&id, JobState::Done).await.attempts, 1);
    assert_eq!(diary.read(), ["slow"]);
    slow.stop().await;
    idle.stop().await;
}

/// A worker whose runtime has one thread, which its handler blocks.
fn blocked_worker(queue: &Queue, block: Duration, diary: &Diary) -> std::thread::JoinHandle<()> {
    let (queue, notes) = (queue.clone(), diary.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let worker = Worker::start(&queue, 1, Duration::from_secs(5), move |_, _| {
                notes.write("blocks");
                std::thread::sleep(block);
                notes.write("returns");
                async { Outcome::Done }
            });
            tokio::time::sleep(block).await;
            worker.stop().await;
        });
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_blocks_its_whole_runtime_keeps_its_lease() {
    let world = World::new();
    let diary = Diary::default();
    let id = world.add("blocking").await;
    let blocked = blocked_worker(&world.queue, quick().lease * 2, &diary);
    diary.until(1).await;
    let idle = idle_worker(&world, &diary);
    assert_eq!(world.until_state(&id, JobState::Done).await.attempts, 1);
    assert_eq!(diary.read(), ["blocks", "returns"]);
    blocked.join().unwrap();
    idle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_blocks_beyond_its_timeout_does_not_keep_its_job_for_ever() {
    let settings = QueueSettings {
        handler_timeout: Duration::from_millis(200),
        cancel_grace: Duration::from_millis(100),
        ..quick()
    };
    let world = World::with(settings);
    let diary = Diary::default();
    let id = world.add("hangs").await;
    let blocked = blocked_worker(&world.queue, Duration::from_secs(5), &diary);
    diary.until(1).await;
    let idle = idle_worker(&world, &diary);
    assert_eq!(diary.until(2).await, ["blocks", "idle 2"]);
    world.until_state(&id, JobState::Done).await;
    blocked.join().unwrap();
    idle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_a_lease_cannot_acknowledge() {
    // Renewals too seldom to notice before the acknowledgement does.
    let settings = QueueSettings {
        renew: Duration::from_millis(500),
        ..quick()
    };
    let world = World::with(settings);
    let id = world.add("contested").await;
    let gate = Arc::new(Semaphore::new(0));
    let (diary, door) = (Diary::default(), Arc::clone(&gate));
    let notes = diary.clone();
    let worker = world.worker(move |job, _| {
        notes.write(job.attempt.to_string());
        let door = Arc::clone(&door);
        async move {
            door.acquire().await.unwrap().forget();
            Outcome::Done
        }
    });
    diary.until(1).await;
    // Somebody else claims it, behind this worker's back.
    let task = world.key(&format!("task:{id}"));
    redis::cmd("HINCRBY")
        .arg(&task)
        .arg("epoch")
        .arg(1)
        .exec(&mut world.redis.raw())
        .unwrap();
    gate.add_permits(1);
    // The false claimant never renews: the job is rescued and runs once more.
    diary.until(2).await;
    assert_eq!(world.queue.stats().await.unwrap().counts.get("done"), None);
    gate.add_permits(1);
    let done = world.until_state(&id, JobState::Done).await;
    assert_eq!(done.attempts, 2);
    assert_eq!(world.queue.stats().await.unwrap().counts["rescued"], 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_after_the_lease_ran_out_changes_nothing() {
    let world = World::new();
    let id = world.add("late").await;
    let gate = Arc::new(Semaphore::new(0));
    let (diary, door) = (Diary::default(), Arc::clone(&gate));
    let notes = diary.clone();
    let worker = world.worker(move |job, _| {
        notes.write(job.attempt.to_string());
        let door = Arc::clone(&door);
        async move {
            door.acquire().await.unwrap().forget();
            Outcome::Done
        }
    });
    diary.until(1).await;
    // Nobody has taken it yet, but anybody could have.
    redis::cmd("ZADD")
        .arg(world.key("leased"))
        .arg(1)
        .arg(id.as_str())
        .exec(&mut world.redis.raw())
        .unwrap();
    gate.add_permits(1);
    diary.until(2).await;
    gate.add_permits(1);
    assert_eq!(world.until_state(&id, JobState::Done).await.attempts, 2);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_its_lease_stops_that_handler() {
    let settings = QueueSettings {
        cancel_grace: Duration::from_secs(60),
        ..quick()
    };
    let world = World::with(settings);
    let id = world.add("contested").await;
    let gate = Arc::new(Semaphore::new(0));
    let (diary, door) = (Diary::default(), Arc::clone(&gate));
    let notes = diary.clone();
    let loser = world.worker(move |_, context| {
        let (notes, door) = (notes.clone(), Arc::clone(&door));
        async move {
            notes.write("began");
            context.cancel.cancelled().await;
            notes.write("stopped");
            // Its slot stays taken, so that the other worker gets the job.
            door.acquire().await.unwrap().forget();
            Outcome::Done
        }
    });
    diary.until(1).await;
    let idle = idle_worker(&world, &diary);
    redis::cmd("ZADD")
        .arg(world.key("leased"))
        .arg(1)
        .arg(id.as_str())
        .exec(&mut world.redis.raw())
        .unwrap();
    let mut entries = diary.until(3).await;
    entries.sort();
    assert_eq!(entries, ["began", "idle 2", "stopped"]);
    let done = world.until_state(&id, JobState::Done).await;
    assert_eq!(done.worker.as_deref(), Some(idle.id.as_str()));
    gate.add_permits(1);
    loser.stop().await;
    idle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hears_nothing_for_a_lease_stops_its_handlers_by_its_own_clock() {
    let world = World::new();
    world.add("alone").await;
    let diary = Diary::default();
    let notes = diary.clone();
    let worker = world.worker(move |job, context| {
        let notes = notes.clone();
        async move {
            if job.attempt > 1 {
                return Outcome::Done;
            }
            notes.write("began");
            context.cancel.cancelled().await;
            notes.write("stopped");
            Outcome::Done
        }
    });
    diary.until(1).await;
    world.redis.signal(Signal::STOP);
    let begun = Instant::now();
    diary.until(2).await;
    // While Redis says nothing at all: within a lease of the last renewal.
    let lease = quick().lease;
    assert!(
        begun.elapsed() <= lease + Duration::from_millis(300),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        begun.elapsed() >= lease - Duration::from_millis(400),
        "{:?}",
        begun.elapsed()
    );
    world.redis.signal(Signal::CONT);
    eventually("it is done in a second attempt", async || {
        (world.queue.stats().await.ok()?.done == 1).then_some(())
    })
    .await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_workers_job_runs_elsewhere_within_15_seconds_by_default() {
    let world = World::with(QueueSettings::default());
    let child = WorkerProcess::start(&world.redis, true);
    let id = world.add_job(work_for(600_000)).await;
    eventually("the child works", async || {
        (child.notes() == ["began"]).then_some(())
    })
    .await;
    let diary = Diary::default();
    let idle = idle_worker(&world, &diary);
    // The worst moment: the lease has just been renewed.
    let renewal = world.show(&id).await.at.unwrap();
    eventually("a renewal", async || {
        (world.show(&id).await.at.unwrap() > renewal).then_some(())
    })
    .await;
    child.kill();
    let begun = Instant::now();
    assert_eq!(diary.until(1).await, ["idle 2"]);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    // And not before the lease was over: the worker might have been alive.
    assert!(took > Duration::from_secs(9), "{took:?}");
    world.until_state(&id, JobState::Done).await;
    idle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_frozen_past_its_lease_comes_back_and_changes_nothing() {
    let world = World::new();
    let child = WorkerProcess::start(&world.redis, false);
    let id = world.add_job(work_for(1000)).await;
    eventually("the child works", async || {
        (child.notes() == ["began"]).then_some(())
    })
    .await;
    child.signal(Signal::STOP);

    let gate = Arc::new(Semaphore::new(0));
    let (diary, door) = (Diary::default(), Arc::clone(&gate));
    let notes = diary.clone();
    let rescuer = world.worker(move |job, context| {
        notes.write(job.attempt.to_string());
        let door = Arc::clone(&door);
        async move {
            door.acquire().await.unwrap().forget();
            assert!(!context.cancel.is_cancelled());
            Outcome::Done
        }
    });
    assert_eq!(diary.until(1).await, ["2"]);
    child.signal(Signal::CONT);
    // Its handler comes to its end, one way or the other, and the child has time to
    // acknowledge it.
    eventually("the child's handler ends", async || {
        (child.notes() == ["began", "ended"]).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let view = world.show(&id).await;
    assert_eq!(view.state, JobState::Leased);
    assert_eq!(view.worker.as_deref(), Some(rescuer.id.as_str()));
    child.kill();
    gate.add_permits(1);
    world.until_state(&id, JobState::Done).await;
    assert_eq!(world.queue.stats().await.unwrap().counts["done"], 1);
    rescuer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_crashes_its_worker_every_time_ends_in_the_dead_letters() {
    let world = World::new();
    let poison = NewJob {
        max_attempts: Some(2),
        ..job("poison")
    };
    let id = world.add_job(poison).await;
    for attempt in ["1", "2"] {
        let diary = Diary::default();
        let notes = diary.clone();
        let victim = world.worker(move |job, _| {
            notes.write(job.attempt.to_string());
            std::future::pending()
        });
        assert_eq!(diary.until(1).await, [attempt]);
        victim.task.abort();
    }
    let diary = Diary::default();
    let idle = idle_worker(&world, &diary);
    let dead = world.until_state(&id, JobState::Dead).await;
    let error = dead.error.unwrap();
    assert!(
        error.starts_with("attempt 2 ended with its lease"),
        "{error}"
    );
    assert!(diary.read().is_empty());
    idle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_and_delays_from_before_a_clock_was_set_back_are_cut() {
    let world = World::new();
    let mut redis = world.redis.raw();
    // A worker that crashed, and its lease as it looks an hour later.
    let leased = world.add("leased").await;
    let diary = Diary::default();
    let notes = diary.clone();
    let victim = world.worker(move |_, _| {
        notes.write("began");
        std::future::pending()
    });
    diary.until(1).await;
    victim.task.abort();
    victim.task.await.unwrap_err();
    let hour = i64::from(60 * 60 * 1000);
    let future = chrono::Utc::now().timestamp_millis() + hour;
    let later = NewJob {
        delay: Duration::from_millis(500),
        ..job("delayed")
    };
    let delayed = world.add_job(later).await;
    for (set, id) in [("leased", &leased), ("delayed", &delayed)] {
        redis::cmd("ZADD")
            .arg(world.key(set))
            .arg(future)
            .arg(id.as_str())
            .exec(&mut redis)
            .unwrap();
    }
    redis::cmd("SET")
        .arg(world.key("clock"))
        .arg(future)
        .exec(&mut redis)
        .unwrap();

    let begun = Instant::now();
    let idle = idle_worker(&world, &Diary::default());
    world.until_state(&delayed, JobState::Done).await;
    assert!(begun.elapsed() >= Duration::from_millis(450));
    assert_eq!(world.until_state(&leased, JobState::Done).await.attempts, 2);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    idle.stop().await;
}
