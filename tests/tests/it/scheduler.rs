//! Schedulers: each slot once, whoever is there.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_041,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// Jobs of one name in some state, as `walferry queue ls` has them.
fn jobs(world: &World, name: &str, state: &str) -> Vec<serde_json::Value> {
    let list = ["--json", "queue", "ls", "--limit", "1000", "--state", state];
    let listed = world.cli(&list);
    assert_eq!(listed.code, 0, "{listed:?}");
    let listed = listed.json();
    let listed = listed.as_array().expect("a list of jobs");
    listed
        .iter()
        .filter(|job| job["name"] == name)
        .cloned()
        .collect()
}

/// The slots of jobs of a schedule, which are all that their keys have besides the name: a
/// key that named its scheduler too would let every scheduler enqueue the slot.
fn slots(jobs: &[serde_json::Value]) -> Vec<u64> {
    let slot = |job: &serde_json::Value| {
        let name = job["name"].as_str().expect("a name");
        let key = job["unique_key"].as_str().expect("a slot is unique");
        let slot = key.strip_prefix(name)?.strip_prefix(':')?;
        slot.parse().ok()
    };
    jobs.iter()
        .map(|job| slot(job).unwrap_or_else(|| panic!("no slot: {job}")))
        .collect()
}

fn distinct(slots: &[u64]) -> BTreeSet<u64> {
    let distinct: BTreeSet<_> = slots.iter().copied().collect();
    assert_eq!(distinct.len(), slots.len(), "a slot twice: {slots:?}");
    distinct
}

/// Slots of the ticks that wait in the queue.
fn waiting_ticks(world: &World) -> Vec<u64> {
    slots(&jobs(world, "continuous-wal-archiving", "ready"))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
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
    distinct(&ticks);
    assert!(schedulers.iter().all(|scheduler| scheduler.running()));
}

#[test]
fn a_scheduler_that_comes_late_finds_the_slot_taken_although_its_job_is_done() {
    let world = World::builder().quick_clouds().build();
    world.worker();
    world.scheduler();
    let ticks = || jobs(&world, "continuous-wal-archiving", "done");
    let of_a_schedule = |jobs: Vec<serde_json::Value>| -> Vec<serde_json::Value> {
        let follows = |job: &serde_json::Value| {
            let key = job["unique_key"].as_str();
            key.is_some_and(|key| key.starts_with("follow-up:"))
        };
        jobs.into_iter().filter(|job| !follows(job)).collect()
    };
    eventually("the tick is done", || {
        let done = of_a_schedule(ticks());
        wait::is(!done.is_empty(), done)
    });
    world.scheduler().await_log("slot enqueued");
    let mut all = of_a_schedule(ticks());
    for state in ["ready", "leased"] {
        all.extend(of_a_schedule(jobs(
            &world,
            "continuous-wal-archiving",
            state,
        )));
    }
    distinct(&slots(&all));
}

#[test]
fn after_an_absence_a_scheduler_enqueues_the_slot_it_finds_itself_in_and_none_that_it_missed() {
    let world = World::builder()
        .no_clouds()
        .setting("scheduler.archive_interval", "1s")
        .build();
    let mut scheduler = world.scheduler();
    for absence in ["killed", "frozen"] {
        let before = now();
        eventually("it is at work", || {
            let ticks = waiting_ticks(&world);
            wait::is(ticks.iter().any(|&slot| slot >= before), ticks)
        });
        if absence == "killed" {
            scheduler.kill();
        } else {
            scheduler.freeze();
        }
        let gone = now();
        eventually("five slots are missed", || {
            wait::is(now() > gone + 5, "not yet")
        });
        let back = now();
        if absence == "killed" {
            scheduler = world.scheduler();
        } else {
            scheduler.thaw();
        }
        let ticks = eventually("it enqueues again", || {
            let ticks = waiting_ticks(&world);
            if ticks.iter().any(|&slot| slot > back) {
                Ok(ticks)
            } else {
                Err(ticks)
            }
        });
        let missed: Vec<_> = ticks
            .iter()
            .filter(|&&slot| gone < slot && slot < back)
            .collect();
        assert!(missed.is_empty(), "{absence}: {missed:?} of {ticks:?}");
    }
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
fn retention_is_enqueued_by_its_cron_expression_each_time_once() {
    let world = World::builder()
        .no_clouds()
        .setting("scheduler.cron.retention", "* * * * * *")
        .build();
    let schedulers = [world.scheduler(), world.scheduler()];
    let waiting = eventually("three times have come", || {
        let waiting = jobs(&world, "retention", "ready");
        if waiting.len() >= 3 {
            Ok(waiting)
        } else {
            Err(waiting)
        }
    });
    distinct(&slots(&waiting));
    assert!(
        waiting.iter().all(|job| job["priority"] == 3),
        "{waiting:?}"
    );
    assert!(schedulers.iter().all(|scheduler| scheduler.running()));
}

/// With an hour between two slots, one whose enqueue failed and was forgotten stays away.
#[test]
fn a_scheduler_without_redis_says_so_and_enqueues_the_slot_when_it_is_back() {
    let mut world = World::builder()
        .no_clouds()
        .setting("scheduler.archive_interval", "1h")
        .build();
    world.redis_mut().kill();
    let scheduler = world.start("scheduler", &[]);
    eventually("it says so", || {
        let (status, body) = scheduler.http("/readyz")?;
        wait::is(
            status == 503 && body.contains("could not be enqueued"),
            body,
        )
    });
    let (status, body) = scheduler.http("/healthz").expect("an answer");
    assert_eq!(status, 200, "no reason for a restart: {body}");
    world.redis_mut().start_again();
    eventually("the tick waits", || {
        let ticks = waiting_ticks(&world);
        if ticks.is_empty() {
            Err(scheduler.log())
        } else {
            Ok(())
        }
    });
    scheduler.await_ready();
}

#[test]
fn a_tick_alone_archives_what_no_watch_told_of() {
    let mut world = World::builder().quick_clouds().build();
    world.cli(&["queue", "pause"]).ok();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.worker();
    // The watch tells of what it finds, and a probe of a cloud's return; both are taken away.
    eventually("the watch has told", || {
        let waiting = jobs(&world, "continuous-wal-archiving", "ready");
        wait::is(!waiting.is_empty(), waiting)
    });
    let mut quiet = std::time::Instant::now();
    eventually("nobody wants anything any more", || {
        for job in jobs(&world, "continuous-wal-archiving", "ready") {
            let id = job["id"].as_str().expect("an id");
            world.cli(&["queue", "cancel", id]).ok();
            quiet = std::time::Instant::now();
        }
        wait::is(quiet.elapsed() > Duration::from_secs(2), "jobs came")
    });
    world.cli(&["queue", "resume"]).ok();
    world.scheduler();
    world.await_archived();
    // The oldest job that is done, last in the list, is the one that did it.
    let first = eventually("the job that did it is done", || {
        let done = jobs(&world, "continuous-wal-archiving", "done");
        let first = done.iter().rev().find(|job| job["state"] == "done");
        first.cloned().ok_or(done)
    });
    slots(&[first]);
}

#[test]
fn a_scheduler_tells_how_deep_its_queues_are_and_how_long_jobs_wait() {
    let world = World::builder().no_clouds().build();
    world.cli(&["enqueue", "retention"]).ok();
    let dead = world.cli(&["--json", "enqueue", "retention"]).json();
    let dead = dead["id"].as_str().expect("an id");
    world.cli(&["queue", "kill", dead]).ok();
    let oldest = std::time::Instant::now();
    eventually("the job has waited a second", || {
        wait::is(oldest.elapsed() > Duration::from_secs(1), "not yet")
    });
    let scheduler = world.scheduler();
    eventually("the depth is told", || {
        let number = |series: &str| scheduler.metric(series);
        let ready = number("walferry_queue_jobs{queue=\"backups\",state=\"ready\"}");
        let dead = number("walferry_queue_jobs{queue=\"backups\",state=\"dead\"}");
        let waited = number("walferry_queue_latency_seconds{queue=\"backups\"}");
        wait::is(
            ready >= Some(1.0) && dead == Some(1.0) && waited >= Some(1.0),
            (ready, dead, waited),
        )
    });
}
