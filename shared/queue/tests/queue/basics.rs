use std::time::Duration;

use walferry_queue::{JobState, Outcome, Priority};

use crate::world::{Diary, World, job};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_once_with_its_arguments() {
    let world = World::new();
    let mut new = job("greet");
    new.args = serde_json::json!({ "whom": "Wal" });
    new.priority = Priority::HIGHEST;
    let id = world.add_job(new).await;
    let diary = Diary::default();
    let notes = diary.clone();
    let worker = world.worker(move |job, _| {
        notes.write(format!(
            "{} {} {} {}",
            job.name, job.args["whom"], job.attempt, job.priority
        ));
        async { Outcome::Done }
    });
    let view = world.until_state(&id, JobState::Done).await;
    assert_eq!((view.attempts, view.error), (1, None));
    worker.stop().await;
    assert_eq!(diary.read(), ["greet \"Wal\" 1 10"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_job_runs_when_it_is_due_and_not_before() {
    let world = World::new();
    let mut new = job("later");
    new.delay = Duration::from_millis(400);
    let begun = std::time::Instant::now();
    let id = world.add_job(new).await;
    assert_eq!(world.show(&id).await.state, JobState::Delayed);
    let diary = Diary::default();
    let notes = diary.clone();
    let worker = world.worker(move |job, _| {
        notes.write(job.name);
        async { Outcome::Done }
    });
    diary.until(1).await;
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(390) && took < Duration::from_millis(1900),
        "{took:?}"
    );
    world.until_state(&id, JobState::Done).await;
    worker.stop().await;
}
