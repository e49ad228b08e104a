use std::time::Duration;

use tokio_util::sync::CancellationToken;
use walferry_queue::{
    Consumer, ConsumerEnded, ConsumerHealth, Handler, Job, JobContext, Outcome, WorkerIdentity,
};

use crate::world::{Diary, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_consumer_is_reported_and_its_handlers_are_stopped() {
    let mut world = World::new();
    world.leases_may_stay = true;
    world.add("work").await;
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
    assert_eq!(worker.health.alive(), Ok(()));
    worker.task.abort();
    let why = eventually("it is reported", async || worker.health.alive().err()).await;
    assert!(why.contains("has ended"), "{why}");
    diary.until(2).await;
}

/// Brings the claimer down.
#[derive(Clone)]
struct Broken;

impl Handler for Broken {
    fn knows(&self, _: &str, _: u32) -> bool {
        panic!("a bug in the consumer itself")
    }

    async fn handle(&self, _: Job, _: JobContext) -> Outcome {
        Outcome::Done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_ends_by_itself_says_so_with_an_error() {
    let mut world = World::new();
    world.leases_may_stay = true;
    let health = ConsumerHealth::new();
    let consumer = Consumer {
        queue: world.queue.clone(),
        worker: WorkerIdentity::of_this_process(&[]),
        slots: 1,
        grace: Duration::from_secs(5),
    };
    let task = tokio::spawn(consumer.run(Broken, CancellationToken::new(), health.clone()));
    world.add("work").await;
    let ended = tokio::time::timeout(Duration::from_secs(15), task)
        .await
        .unwrap();
    assert!(matches!(ended.unwrap(), Err(ConsumerEnded::Unasked { .. })));
    assert!(health.alive().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_drains_is_alive_but_not_ready_and_then_has_ended() {
    let world = World::new();
    world.add("work").await;
    let diary = Diary::default();
    let notes = diary.clone();
    let worker = world.worker(move |_, context| {
        notes.write("began");
        async move {
            context.drain.cancelled().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            Outcome::Done
        }
    });
    diary.until(1).await;
    eventually("it is ready", async || worker.health.ready().ok()).await;
    let health = worker.health.clone();
    worker.shutdown.cancel();
    eventually("it drains", async || {
        health.ready().err().filter(|e| e.contains("drain"))
    })
    .await;
    assert_eq!(health.alive(), Ok(()));
    worker.stop().await;
    assert_eq!(health.ended().as_deref(), Some("it was shut down"));
    // Its program may still drain another queue: no reason for a restart, and not ready.
    assert_eq!(health.alive(), Ok(()));
    assert!(health.ready().is_err());
}
