use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use walferry_queue::{Cancelled, JobState, Killed, NewJob, Outcome, QueueError};

use crate::child::WorkerProcess;
use crate::world::{Diary, World, eventually, job};

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_waiting_job_removes_it() {
    let world = World::new();
    let ready = world.add("ready").await;
    let delayed = NewJob {
        delay: Duration::from_secs(600),
        ..job("delayed")
    };
    let delayed = world.add_job(delayed).await;
    for id in [&ready, &delayed] {
        assert_eq!(world.queue.cancel(id).await.unwrap(), Cancelled::Removed);
        assert_eq!(world.show(id).await.state, JobState::Cancelled);
        let twice = world.queue.cancel(id).await;
        assert!(matches!(twice, Err(QueueError::WrongState { .. })));
    }
    assert_eq!(
        world
            .queue
            .list(JobState::Cancelled, 10)
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(world.queue.list(JobState::Done, 10).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_running_job_stops_its_handler_and_ends_it() {
    let world = World::new();
    let obedient = world.add("obedient").await;
    let deaf = world.add("deaf").await;
    let diary = Diary::default();
    let notes = diary.clone();
    let worker = world.worker_with_slots(2, move |job, context| {
        let notes = notes.clone();
        async move {
            notes.write("began");
            if job.name == "deaf" {
                std::future::pending::<()>().await;
            }
            context.cancel.cancelled().await;
            notes.write("stopped");
            Outcome::Retry {
                error: "I was cancelled".into(),
                after: None,
            }
        }
    });
    diary.until(2).await;
    for id in [&obedient, &deaf] {
        assert_eq!(world.queue.cancel(id).await.unwrap(), Cancelled::Requested);
    }
    for id in [&obedient, &deaf] {
        world.until_state(id, JobState::Cancelled).await;
    }
    assert_eq!(diary.read(), ["began", "began", "stopped"]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_sends_a_job_to_the_dead_letters_now_and_its_worker_has_no_say() {
    let world = World::new();
    let waiting = world
        .add_job(NewJob {
            delay: Duration::from_secs(600),
            ..job("waiting")
        })
        .await;
    assert_eq!(world.queue.kill(&waiting).await.unwrap(), Killed::Dead);
    assert_eq!(
        world.queue.kill(&waiting).await.unwrap(),
        Killed::AlreadyDead
    );

    let running = world.add("running").await;
    let diary = Diary::default();
    let notes = diary.clone();
    let worker = world.worker(move |_, context| {
        let notes = notes.clone();
        async move {
            notes.write("began");
            context.cancel.cancelled().await;
            notes.write("stopped");
            Outcome::Done
        }
    });
    diary.until(1).await;
    assert_eq!(world.queue.kill(&running).await.unwrap(), Killed::Dead);
    diary.until(2).await;
    worker.stop().await;
    let dead = world.show(&running).await;
    assert_eq!(
        (dead.state, dead.error.as_deref()),
        (JobState::Dead, Some("killed by an operator"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_hands_nothing_out_until_it_is_resumed() {
    let world = World::new();
    let gate = Arc::new(Semaphore::new(0));
    let (diary, door) = (Diary::default(), Arc::clone(&gate));
    let notes = diary.clone();
    let running = world.add("running").await;
    let worker = world.worker_with_slots(2, move |job, _| {
        notes.write(job.name);
        let door = Arc::clone(&door);
        async move {
            door.acquire().await.unwrap().forget();
            Outcome::Done
        }
    });
    diary.until(1).await;
    world.queue.pause().await.unwrap();
    let since = world.queue.stats().await.unwrap().paused_since.unwrap();
    let waiting = world.add("waiting").await;
    // What runs goes on, and the worker with its free slots lives.
    gate.add_permits(1);
    world.until_state(&running, JobState::Done).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.show(&waiting).await.state, JobState::Ready);
    assert_eq!(worker.health.ready(), Ok(()));
    world.queue.pause().await.unwrap();
    assert_eq!(world.queue.stats().await.unwrap().paused_since, Some(since));

    world.queue.resume().await.unwrap();
    gate.add_permits(1);
    world.until_state(&waiting, JobState::Done).await;
    assert!(!world.queue.stats().await.unwrap().paused());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn living_workers_are_listed_with_what_they_do_and_gone_ones_vanish() {
    let mut world = World::new();
    world.leases_may_stay = true;
    let crashing = WorkerProcess::start(&world.redis, false);
    let long = NewJob {
        args: serde_json::json!({ "work_ms": 600_000 }),
        ..job("long")
    };
    let id = world.add_job(long).await;
    world.until_state(&id, JobState::Leased).await;
    let leaving = world.worker_with_slots(3, |_, _| std::future::pending());
    let listed = eventually("both are listed, the job too", async || {
        let workers = world.queue.workers().await.ok()?;
        (workers.len() == 2 && workers.iter().any(|w| !w.jobs.is_empty())).then_some(workers)
    })
    .await;
    let busy = listed.iter().find(|w| w.pid == crashing.pid()).unwrap();
    assert_eq!(
        (busy.slots, busy.queues.join(" ").as_str()),
        (1, "test-queue")
    );
    assert_eq!(
        (busy.jobs[0].id.as_str(), busy.jobs[0].attempt),
        (id.as_str(), 1)
    );
    let idle = listed.iter().find(|w| w.id == leaving.id).unwrap();
    assert_eq!((idle.slots, idle.pid), (3, std::process::id()));
    assert!(idle.jobs.is_empty() && !idle.draining);

    // One shuts down in order, the other is gone without a word.
    leaving.stop().await;
    let left = world.queue.workers().await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].pid, crashing.pid());
    crashing.kill();
    eventually("the list is empty", async || {
        let workers = world.queue.workers().await.ok()?;
        workers.is_empty().then_some(())
    })
    .await;
    // Nothing of it stays behind once another one lives.
    let next = world.worker(|_, _| std::future::pending());
    let key = world.key("workers");
    eventually("the set holds the living only", async || {
        let ids: Vec<String> = redis::cmd("ZRANGE")
            .arg(&key)
            .arg(0)
            .arg(-1)
            .query(&mut world.redis.raw())
            .ok()?;
        (ids == [next.id.as_str()]).then_some(())
    })
    .await;
    next.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_tell_states_and_how_long_the_oldest_job_waits() {
    let world = World::new();
    assert_eq!(world.queue.stats().await.unwrap().oldest_ready_age, None);
    world.add("old").await;
    tokio::time::sleep(Duration::from_millis(120)).await;
    let mut urgent = job("young and urgent");
    urgent.priority = walferry_queue::Priority::HIGHEST;
    world.add_job(urgent).await;
    world
        .add_job(NewJob {
            delay: Duration::from_secs(600),
            ..job("delayed")
        })
        .await;
    let dead = world.add("dead").await;
    world.queue.kill(&dead).await.unwrap();
    let stats = world.queue.stats().await.unwrap();
    assert_eq!(
        (stats.ready, stats.delayed, stats.leased, stats.dead),
        (2, 1, 0, 1)
    );
    let age = stats.oldest_ready_age.unwrap();
    assert!(
        age >= Duration::from_millis(119) && age < Duration::from_secs(5),
        "{age:?}"
    );
    assert_eq!(stats.counts["enqueued"], 4);
    let names: Vec<_> = world.queue.list(JobState::Ready, 10).await.unwrap();
    let names: Vec<_> = names.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(names, ["young and urgent", "old"]);
    assert_eq!(world.queue.list(JobState::Ready, 1).await.unwrap().len(), 1);
    world.queue.ping().await.unwrap();
}
