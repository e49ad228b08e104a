//! Schedulers: each slot once, whoever is there.

use std::collections::BTreeSet;

use walferry_tests::{World, eventually};

/// Unique keys of the ticks that wait in the queue.
fn waiting_ticks(world: &World) -> Vec<String> {
    let jobs = world.cli(&["--json", "queue", "ls", "--limit", "1000"]);
    assert_eq!(jobs.code, 0, "{jobs:?}");
    jobs.json()
        .as_array()
        .expect("a list of jobs")
        .iter()
        .filter(|job| job["name"] == "continuous-wal-archiving")
        .map(|job| {
            job["unique_key"]
                .as_str()
                .expect("a tick is unique")
                .to_owned()
        })
        .collect()
}

#[test]
fn two_schedulers_side_by_side_enqueue_each_slot_once() {
    let world = World::builder()
        .no_clouds()
        .setting("scheduler.archive_interval", "1s")
        .build();
    let schedulers = [world.scheduler(), world.scheduler()];
    let ticks = eventually("five slots have passed", || {
        let ticks = waiting_ticks(&world);
        if ticks.len() >= 5 {
            Ok(ticks)
        } else {
            Err(ticks)
        }
    });
    let distinct: BTreeSet<_> = ticks.iter().collect();
    assert_eq!(distinct.len(), ticks.len(), "{ticks:?}");
    assert!(schedulers.iter().all(|scheduler| scheduler.running()));
}

#[test]
fn a_tick_has_priority_10_and_lies_in_the_queue_backups() {
    let world = World::builder().no_clouds().build();
    world.scheduler();
    eventually("the first tick waits", || {
        let jobs = world
            .cli(&["--json", "queue", "--queue", "backups", "ls"])
            .json();
        match jobs.as_array().and_then(|jobs| {
            jobs.iter()
                .find(|job| job["name"] == "continuous-wal-archiving")
        }) {
            Some(job) if job["priority"] == 10 => Ok(()),
            _ => Err(jobs),
        }
    });
}

#[test]
fn a_scheduler_without_redis_says_so_and_enqueues_when_it_is_back() {
    let mut world = World::builder()
        .no_clouds()
        .setting("scheduler.archive_interval", "1s")
        .build();
    world.redis_mut().kill();
    let scheduler = world.start("scheduler", &[]);
    eventually("it serves HTTP", || scheduler.http("/healthz"));
    world.redis_mut().start_again();
    eventually("a tick waits", || {
        let ticks = waiting_ticks(&world);
        if ticks.is_empty() {
            Err(scheduler.log())
        } else {
            Ok(())
        }
    });
}
