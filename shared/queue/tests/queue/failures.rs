use std::time::{Duration, Instant};

use walferry_queue::{JobState, NewJob, Outcome, QueueError, QueueSettings};

use crate::world::{Diary, World, eventually, job, quick};

fn retry(error: &str) -> Outcome {
    Outcome::Retry {
        error: error.into(),
        after: None,
    }
}

fn attempts(name: &str, limit: u32) -> NewJob {
    NewJob {
        max_attempts: Some(limit),
        ..job(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_job_is_retried_to_its_limit_and_then_dead_with_its_error() {
    let world = World::new();
    let diary = Diary::default();
    let notes = diary.clone();
    let id = world.add_job(attempts("fails", 4)).await;
    let worker = world.worker(move |job, _| {
        notes.write(job.attempt.to_string());
        async move { retry(&format!("reason {}", job.attempt)) }
    });
    let dead = world.until_state(&id, JobState::Dead).await;
    assert_eq!(diary.read(), ["1", "2", "3", "4"]);
    assert_eq!(
        (dead.attempts, dead.error.as_deref()),
        (4, Some("reason 4"))
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pause_between_attempts_grows() {
    let settings = QueueSettings {
        retry_base: Duration::from_millis(100),
        retry_max: Duration::from_secs(10),
        ..quick()
    };
    let world = World::with(settings);
    let id = world.add_job(attempts("fails", 4)).await;
    let begun = Instant::now();
    let diary = Diary::default();
    let notes = diary.clone();
    let worker = world.worker(move |_, _| {
        notes.write(begun.elapsed().as_millis().to_string());
        async { retry("no") }
    });
    world.until_state(&id, JobState::Dead).await;
    let at: Vec<u64> = diary.read().iter().map(|ms| ms.parse().unwrap()).collect();
    // 100, 200 and 400 ms, each less at most half of it.
    assert!(
        at[1] - at[0] >= 50 && at[2] - at[1] >= 100 && at[3] - at[2] >= 200,
        "{at:?}"
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_can_be_retried_with_all_attempts_anew() {
    let world = World::new();
    let id = world.add_job(attempts("fails-first", 2)).await;
    let failing = world.worker(|_, _| async { retry("no") });
    world.until_state(&id, JobState::Dead).await;
    failing.stop().await;

    world.queue.retry(&id).await.unwrap();
    let view = world.show(&id).await;
    assert_eq!((view.state, view.attempts), (JobState::Ready, 0));
    let healed = world.worker(|job, _| async move {
        assert_eq!(job.attempt, 1);
        Outcome::Done
    });
    world.until_state(&id, JobState::Done).await;
    healed.stop().await;
    assert!(matches!(
        world.queue.retry(&id).await,
        Err(QueueError::WrongState { .. })
    ));
    let nobody = world.queue.retry(&"nobody".into()).await;
    assert!(matches!(nobody, Err(QueueError::NoSuchJob { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_dead_letters_leave_but_those_whose_key_is_taken() {
    let world = World::new();
    let keyed = NewJob {
        unique_key: Some("k".into()),
        ..job("keyed")
    };
    for new in [job("a"), job("b"), keyed.clone()] {
        let id = world.add_job(new).await;
        world.queue.kill(&id).await.unwrap();
    }
    let holder = world.add_job(keyed).await;
    assert_eq!(world.queue.retry_all_dead().await.unwrap(), 2);
    let stats = world.queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.dead), (3, 1));
    let left = &world.queue.list(JobState::Dead, 10).await.unwrap()[0];
    match world.queue.retry(&left.id).await {
        Err(QueueError::KeyTaken { holder: by }) => assert_eq!(by, holder),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_one_failed_attempt_and_takes_no_other_job_with_it() {
    let world = World::new();
    let id = world.add_job(attempts("panics-once", 3)).await;
    let steady = world.add("steady").await;
    let worker = world.worker_with_slots(2, |job, _| async move {
        if job.name == "steady" {
            tokio::time::sleep(Duration::from_millis(200)).await;
        } else {
            assert!(job.attempt > 1, "the first time is too much for me");
        }
        Outcome::Done
    });
    let done = world.until_state(&id, JobState::Done).await;
    assert_eq!(done.attempts, 2);
    assert!(done.error.unwrap().contains("the first time is too much"));
    assert_eq!(world.until_state(&steady, JobState::Done).await.attempts, 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_too_long_is_cancelled_and_tried_again() {
    let settings = QueueSettings {
        handler_timeout: Duration::from_millis(300),
        ..quick()
    };
    let world = World::with(settings);
    let diary = Diary::default();
    let notes = diary.clone();
    let deaf = world.add_job(attempts("deaf", 1)).await;
    let listening = world.add_job(attempts("listening", 2)).await;
    let worker = world.worker_with_slots(2, move |job, context| {
        let notes = notes.clone();
        async move {
            if job.name == "deaf" {
                std::future::pending::<()>().await;
            } else if job.attempt == 1 {
                context.cancel.cancelled().await;
                notes.write("heard");
                return retry("I was told to stop");
            }
            Outcome::Done
        }
    });
    let dead = world.until_state(&deaf, JobState::Dead).await;
    assert_eq!(dead.error.as_deref(), Some("timed out after 300ms"));
    assert_eq!(
        world.until_state(&listening, JobState::Done).await.attempts,
        2
    );
    assert_eq!(diary.read(), ["heard"]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_can_send_a_job_to_the_dead_letters_at_once() {
    let world = World::new();
    let id = world.add("hopeless").await;
    let worker = world.worker(|_, _| async {
        Outcome::Dead {
            error: "no such cluster".into(),
        }
    });
    let dead = world.until_state(&id, JobState::Dead).await;
    assert_eq!(
        (dead.attempts, dead.error.as_deref()),
        (1, Some("no such cluster"))
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_back_never_uses_up_the_attempts() {
    let world = World::new();
    let id = world.add_job(attempts("patient", 1)).await;
    let diary = Diary::default();
    let notes = diary.clone();
    let worker = world.worker(move |job, _| {
        notes.write(job.attempt.to_string());
        let seen = notes.read().len();
        async move {
            if seen < 5 {
                return Outcome::GiveBack {
                    delay: Duration::from_millis(10),
                    reason: "later".into(),
                };
            }
            Outcome::Done
        }
    });
    world.until_state(&id, JobState::Done).await;
    assert_eq!(diary.read(), ["1", "1", "1", "1", "1"]);
    let counts = world.queue.stats().await.unwrap().counts;
    assert_eq!((counts["given_back"], counts["done"]), (4, 1));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_done_and_dead_jobs_make_room_for_the_newest() {
    let settings = QueueSettings {
        done_cap: 5,
        dead_cap: 3,
        ..quick()
    };
    let world = World::with(settings);
    for n in 0..20 {
        world.add(if n % 2 == 0 { "good" } else { "bad" }).await;
    }
    let worker = world.worker(|job, _| async move {
        if job.name == "good" {
            return Outcome::Done;
        }
        Outcome::Dead {
            error: "bad".into(),
        }
    });
    eventually("all have ended", async || {
        let stats = world.queue.stats().await.ok()?;
        (stats.counts.get("done")? + stats.counts.get("dead")? == 20).then_some(())
    })
    .await;
    worker.stop().await;
    let stats = world.queue.stats().await.unwrap();
    assert_eq!((stats.done, stats.dead), (5, 3));
    let tasks: Vec<String> = redis::cmd("KEYS")
        .arg(world.key("task:*"))
        .query(&mut world.redis.raw())
        .unwrap();
    assert_eq!(tasks.len(), 8, "trimmed jobs leave nothing behind");
}
