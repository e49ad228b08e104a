use std::time::Duration;

use tokio_util::sync::CancellationToken;
use walferry_queue::{
    Consumer, ConsumerHealth, Handler, Job, JobContext, JobId, JobState, Outcome, QueueSettings,
    WorkerIdentity,
};

use crate::child::WorkerProcess;
use crate::world::{World, eventually, job, quick};

/// The worker that is being rolled out; every job of its ends so.
#[derive(Clone)]
struct Newer(Outcome);

impl Handler for Newer {
    fn knows(&self, _: &str, _: u32) -> bool {
        true
    }

    async fn handle(&self, _: Job, _: JobContext) -> Outcome {
        self.0.clone()
    }
}

impl Newer {
    fn start(self, world: &World) -> (tokio::task::JoinHandle<()>, CancellationToken) {
        let shutdown = CancellationToken::new();
        let consumer = Consumer {
            queue: world.queue.clone(),
            worker: WorkerIdentity::of_this_process(&[]),
            slots: 1,
            grace: Duration::from_secs(5),
        };
        let work = consumer.run(self, shutdown.clone(), ConsumerHealth::new());
        let task = tokio::spawn(async move { work.await.unwrap() });
        (task, shutdown)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_version_or_an_unknown_name_is_given_back_without_an_attempt() {
    let settings = QueueSettings {
        unknown_job_limit: Duration::from_secs(60),
        ..quick()
    };
    let world = World::with(settings);
    let mut newer = job("known");
    newer.version = 1000;
    let jobs = [
        world.add_job(newer).await,
        world.add("from-the-future").await,
    ];
    let old = world.worker(|_, _| async { Outcome::Done });
    for id in &jobs {
        let view = eventually("given back", async || {
            let view = world.show(id).await;
            (view.state == JobState::Delayed && view.error.is_some()).then_some(view)
        })
        .await;
        assert_eq!(view.attempts, 0);
        assert!(view.error.unwrap().contains("a newer worker may"));
    }
    old.stop().await;

    let (task, shutdown) = Newer(Outcome::Done).start(&world);
    for id in &jobs {
        assert_eq!(world.until_state(id, JobState::Done).await.attempts, 1);
    }
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_nobody_knows_for_too_long_is_dead_with_the_reason() {
    let world = World::new();
    let id = world.add("from-the-future").await;
    let begun = std::time::Instant::now();
    let worker = world.worker(|_, _| async { Outcome::Done });
    let dead = world.until_state(&id, JobState::Dead).await;
    assert!(
        begun.elapsed() >= Duration::from_millis(490),
        "{:?}",
        begun.elapsed()
    );
    let error = dead.error.unwrap();
    assert!(
        error.contains("knows job `from-the-future` version 1"),
        "{error}"
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_does_not_decode_is_dead_and_the_next_job_runs() {
    let world = World::new();
    let bad = world.add("will-be-broken").await;
    let worse = world.add("will-be-bytes").await;
    let mut redis = world.redis.raw();
    for (id, payload) in [(&bad, &b"{\"name\":"[..]), (&worse, &b"\xff\xfe\x00"[..])] {
        let key = world.key(&format!("task:{id}"));
        redis::cmd("HSET")
            .arg(key)
            .arg("payload")
            .arg(payload)
            .exec(&mut redis)
            .unwrap();
    }
    let good = world.add("good").await;
    let worker = world.worker(|_, _| async { Outcome::Done });
    world.until_state(&good, JobState::Done).await;
    for id in [bad, worse] {
        let dead = world.until_state(&id, JobState::Dead).await;
        assert_eq!(dead.attempts, 1);
        assert!(dead.error.unwrap().contains("does not decode"));
    }
    worker.stop().await;
}

fn unknown_since(world: &World, id: &JobId) -> bool {
    redis::cmd("HEXISTS")
        .arg(world.key(&format!("task:{id}")))
        .arg("unknown_since_ms")
        .query(&mut world.redis.raw())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_in_which_a_worker_that_knew_it_had_the_job_is_not_counted() {
    let world = World::with(QueueSettings {
        unknown_job_limit: Duration::from_secs(60),
        ..quick()
    });
    let id = world.add("from-the-future").await;
    let old = world.worker(|_, _| async { Outcome::Done });
    eventually("given back by one that does not know it", async || {
        unknown_since(&world, &id).then_some(())
    })
    .await;
    old.stop().await;

    let drained = Outcome::GiveBack {
        delay: Duration::from_secs(600),
        reason: "shut down in the middle of it".into(),
    };
    let (task, shutdown) = Newer(drained).start(&world);
    eventually("given back by one that knows it", async || {
        let error = world.show(&id).await.error?;
        error.contains("in the middle").then_some(())
    })
    .await;
    assert!(!unknown_since(&world, &id));
    shutdown.cancel();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_crashed_over_a_job_knew_it() {
    let world = World::new();
    let mut new = job("work");
    new.args = serde_json::json!({ "work_ms": 600_000 });
    let id = world.add_job(new).await;
    redis::cmd("HSET")
        .arg(world.key(&format!("task:{id}")))
        .arg("unknown_since_ms")
        .arg(1)
        .exec(&mut world.redis.raw())
        .unwrap();
    let crashing = WorkerProcess::start(&world.redis, false);
    world.until_state(&id, JobState::Leased).await;
    crashing.kill();
    let worker = world.worker(|_, _| async { Outcome::Done });
    world.until_state(&id, JobState::Done).await;
    assert!(!unknown_since(&world, &id));
    worker.stop().await;
}
