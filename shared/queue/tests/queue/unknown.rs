use std::time::Duration;

use walferry_queue::{
    Consumer, ConsumerHealth, Handler, Job, JobContext, JobState, Outcome, QueueSettings,
    WorkerIdentity,
};

use crate::world::{World, eventually, job, quick};

/// The worker that is being rolled out.
#[derive(Clone)]
struct Newer;

impl Handler for Newer {
    fn knows(&self, _: &str, _: u32) -> bool {
        true
    }

    async fn handle(&self, _: Job, _: JobContext) -> Outcome {
        Outcome::Done
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

    let shutdown = tokio_util::sync::CancellationToken::new();
    let consumer = Consumer {
        queue: world.queue.clone(),
        worker: WorkerIdentity::of_this_process(&[]),
        slots: 1,
        grace: Duration::from_secs(5),
    };
    let task = tokio::spawn(consumer.run(Newer, shutdown.clone(), ConsumerHealth::new()));
    for id in &jobs {
        assert_eq!(world.until_state(id, JobState::Done).await.attempts, 1);
    }
    shutdown.cancel();
    task.await.unwrap().unwrap();
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
