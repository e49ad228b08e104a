use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use walferry_queue::{NewJob, Outcome, QueueSettings};

use crate::world::{Diary, Worker, World, job, queue_on, within};

async fn enqueue_many(world: &World, jobs: impl Iterator<Item = NewJob>) {
    futures::stream::iter(jobs)
        .map(|job| world.queue.enqueue(job))
        .buffer_unordered(200)
        .for_each(|result| async move {
            result.unwrap();
        })
        .await;
}

fn counting_workers(world: &World, diary: &Diary) -> [Worker; 2] {
    [(); 2].map(|()| {
        let queue = queue_on(&world.redis, QueueSettings::default());
        let notes = diary.clone();
        Worker::start(&queue, 8, Duration::from_secs(5), move |job, _| {
            notes.write(job.name);
            async { Outcome::Done }
        })
    })
}

fn assert_each_ran_once(diary: &Diary, jobs: usize) {
    let mut runs: HashMap<String, usize> = HashMap::new();
    for entry in diary.read() {
        *runs.entry(entry).or_default() += 1;
    }
    assert_eq!(runs.len(), jobs);
    assert!(runs.values().all(|n| *n == 1));
}

async fn until_done(world: &World, jobs: u64) {
    within(Duration::from_secs(240), "all are done", async || {
        (world.queue.stats().await.ok()?.counts.get("done") == Some(&jobs)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_run_2000_jobs_once_each() {
    let world = World::with(QueueSettings::default());
    let diary = Diary::default();
    let workers = counting_workers(&world, &diary);
    enqueue_many(&world, (0..2000).map(|n| job(&n.to_string()))).await;
    until_done(&world, 2000).await;
    for worker in workers {
        worker.stop().await;
    }
    assert_each_ran_once(&diary, 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_that_are_due_at_once_stop_nothing() {
    let world = World::with(QueueSettings::default());
    let due = Instant::now() + Duration::from_secs(3);
    let jobs = (0..10_000).map(|n| NewJob {
        delay: due.saturating_duration_since(Instant::now()),
        ..job(&n.to_string())
    });
    enqueue_many(&world, jobs).await;
    tokio::time::sleep_until(due.into()).await;
    let diary = Diary::default();
    let workers = counting_workers(&world, &diary);
    until_done(&world, 10_000).await;
    for worker in workers {
        worker.stop().await;
    }
    assert_each_ran_once(&diary, 10_000);
}
