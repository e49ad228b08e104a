//! Queues and their jobs, with the real handlers: several queues, keys, cancelling, dying.

use walferry_tests::process::shell_code;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_042,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

const SALES: Maker = Maker {
    system_id: 7_300_000_000_000_000_043,
    ..MAKER
};

fn jobs(world: &World, queue: &str, state: &str) -> Vec<serde_json::Value> {
    let list = ["--json", "queue", "-Q", queue, "ls", "--limit", "1000"];
    let listed = world.cli(&[&list[..], &["--state", state]].concat());
    assert_eq!(listed.code, 0, "{listed:?}");
    listed.json().as_array().expect("a list of jobs").clone()
}

/// Unique keys of the jobs that wait in `backups`.
fn waiting_keys(world: &World) -> Vec<String> {
    let mut keys: Vec<String> = jobs(world, "backups", "ready")
        .iter()
        .map(|job| job["unique_key"].as_str().unwrap_or_default().to_owned())
        .collect();
    keys.sort();
    keys
}

fn show(world: &World, id: &str) -> serde_json::Value {
    world.cli(&["--json", "queue", "show", id]).json()
}

#[track_caller]
fn await_state(world: &World, id: &str, state: &str) -> serde_json::Value {
    eventually(&format!("the job is {state}"), || {
        let job = show(world, id);
        if job["state"] == state {
            Ok(job)
        } else {
            Err(job)
        }
    })
}

/// A second cluster in the same catalog, its directory beside the first one's.
fn add_sales(world: &mut World, queue: &str) -> std::path::PathBuf {
    let directory = world.directory("sales");
    world.set("clusters", "main,sales");
    world.set("clusters.sales.prefix", "sales/");
    world.set(
        "clusters.sales.directories",
        &directory.display().to_string(),
    );
    world.set("clusters.sales.queue", queue);
    directory
}

#[test]
fn a_cluster_with_a_queue_of_its_own_waits_for_the_worker_that_serves_it() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("scheduler.archive_interval", "1s")
        .build();
    let directory = add_sales(&mut world, "sales");
    let name = SALES.name(7);
    let bytes = SALES.bytes(7, Fill::Light);
    world.place_in(&directory, &name, &bytes);
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.scheduler();
    world.worker_with(&[
        ("worker.queues", "backups"),
        ("worker.directories", "main/main"),
    ]);
    world.await_archived();
    eventually("the ticks of sales wait", || {
        let waiting = jobs(&world, "sales", "ready").len();
        wait::is(waiting >= 3, waiting)
    });
    for state in ["leased", "done", "dead"] {
        assert_eq!(jobs(&world, "sales", state).len(), 0, "{state}");
    }
    assert_eq!(world.files_in(&directory), [name.as_str()]);

    world.worker_with(&[
        ("worker.queues", "sales"),
        ("worker.directories", "sales/main"),
    ]);
    eventually("sales is archived, too", || {
        let left = world.files_in(&directory);
        wait::is(left.is_empty(), left)
    });
    for cloud in world.clouds() {
        let key = format!("sales/{name}.gz");
        let object = cloud.bucket().get(&key).expect("it is there");
        let content = walferry_tests::originals::gunzip(&object.body).expect("gzip");
        assert!(content == bytes, "{key} in {}", cloud.name());
    }
    eventually("its job is done", || {
        let done = jobs(&world, "sales", "done");
        wait::is(!done.is_empty(), done)
    });
}

#[test]
fn a_wake_has_one_job_for_each_cluster_however_many_workers_watch() {
    let mut world = World::builder().quick_clouds().build();
    let directory = add_sales(&mut world, "backups");
    world.cli(&["queue", "pause"]).ok();
    world.worker();
    world.worker();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.place_in(&directory, &SALES.name(1), &SALES.bytes(1, Fill::Light));
    let wanted = ["follow-up:main:1", "follow-up:sales:1"];
    eventually("both clusters are told of", || {
        let keys = waiting_keys(&world);
        wait::is(keys == wanted, keys)
    });
    wait::throughout(std::time::Duration::from_secs(2), "one job each", || {
        let keys = waiting_keys(&world);
        wait::is(keys == wanted, keys)
    });
    world.cli(&["queue", "resume"]).ok();
    world.await_archived();
    eventually("sales is archived, too", || {
        let left = world.files_in(&directory);
        wait::is(left.is_empty(), left)
    });
}

#[test]
fn a_backlog_calls_one_helper_for_each_ordinal() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    for number in 1..25 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Empty));
    }
    world.worker_with(&[("worker.slots", "1")]);
    gate.await_waiting(1);
    let wanted = ["follow-up:main:2", "follow-up:main:3"];
    eventually("24 files want three workers", || {
        // Ordinal 1 runs: it is the watch's, too, and may be wanted once more.
        let keys = waiting_keys(&world);
        wait::is(keys == wanted, keys)
    });
    gate.open();
    world.await_archived();
    world.assert_written_once();
}

#[test]
fn a_job_that_is_cancelled_or_killed_lets_go_of_its_files_at_once_and_at_no_cost() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.worker();
    for (order, state) in [("cancel", "cancelled"), ("kill", "dead")] {
        eventually("a job has claimed the file", || {
            let claimed = "SELECT count(*) FROM wal_files WHERE lease_until > clock_timestamp()";
            let claimed = world.number(claimed);
            wait::is(claimed == 1, claimed)
        });
        // No other job takes the file up before it was looked at.
        world.cli(&["queue", "pause"]).ok();
        let running = jobs(&world, "backups", "leased");
        assert!(world.leftover_claims().is_some(), "{running:?}");
        let ids = running.iter().map(|job| job["id"].as_str().expect("an id"));
        for id in ids.clone() {
            // One that found nothing to do may have ended by now.
            world.cli(&["queue", order, id]);
        }
        eventually("its claims are given back", || {
            world.leftover_claims().map_or(Ok(()), Err)
        });
        let states: Vec<_> = ids.map(|id| show(&world, id)["state"].clone()).collect();
        assert!(states.iter().any(|ended| ended == state), "{states:?}");
        let rows = world.rows("SELECT status, claimed_by, crashes, failures FROM wal_files");
        let untouched = ["PENDING", "0", "0"].map(|value| Some(value.to_owned()));
        let [status, crashes, failures] = untouched;
        assert_eq!(rows, [vec![status, None, crashes, failures]], "{order}");
        assert_eq!(world.archived_files(), [MAKER.name(1)]);
        world.cli(&["queue", "resume"]).ok();
        world.cli(&["enqueue", "continuous-wal-archiving"]).ok();
    }
    gate.open();
    world.await_archived();
}

#[test]
fn a_job_that_fails_to_its_last_attempt_is_a_dead_letter_and_retry_brings_it_back() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("queue.max_attempts", "2")
        .setting("queue.retry_base", "100ms")
        .build();
    world.worker();
    let path = world.folder().join("late").display().to_string();
    let added = world
        .cli(&["--json", "enqueue", "backfill", "--dir", &path])
        .json();
    let id = added["id"].as_str().expect("an id").to_owned();
    let dead = await_state(&world, &id, "dead");
    assert_eq!(dead["attempts"], 2, "{dead}");
    let error = dead["error"].as_str().unwrap_or_default();
    assert!(error.contains(&path), "the error names it: {dead}");

    let directory = world.directory("late");
    let bytes = MAKER.bytes(1, Fill::Light);
    world.place_in(&directory, &MAKER.name(1), &bytes);
    world.originals_mut().remember(&MAKER.name(1), &bytes);
    world.cli(&["queue", "retry", &id]).ok();
    await_state(&world, &id, "done");
    world.await_archived();
    assert_eq!(world.files_in(&directory), [""; 0]);
}

#[test]
fn a_frozen_worker_that_comes_back_changes_nothing_in_queue_and_directory() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    let frozen = world.worker();
    let (name, bytes) = (MAKER.name(1), MAKER.bytes(1, Fill::Light));
    world.hand_over(&name, &bytes);
    gate.await_waiting(1);
    let running = jobs(&world, "backups", "leased");
    frozen.freeze();
    let rescuer = world.worker();
    gate.open();
    world.await_archived();
    for job in &running {
        await_state(&world, job["id"].as_str().expect("an id"), "done");
    }
    rescuer.terminate();
    rescuer.wait();

    // Nothing may be taken up anew.
    world.cli(&["queue", "pause"]).ok();
    let tasks = |world: &World| -> Vec<Vec<String>> {
        let task = |job: &serde_json::Value| {
            let id = job["id"].as_str().expect("an id");
            let key = format!("{{backups}}:task:{id}");
            let mut fields = world.redis().strings(&["HGETALL", &key]);
            fields.sort();
            fields
        };
        running.iter().map(task).collect()
    };
    let (before, done) = (tasks(&world), jobs(&world, "backups", "done").len());
    frozen.thaw();
    eventually("it notices", || {
        let log = frozen.log();
        wait::is(
            log.contains("lease lost") || log.contains("lease was lost"),
            log,
        )
    });
    // PostgreSQL hands the same file over once more.
    world.place(&name, &bytes);
    wait::throughout(std::time::Duration::from_secs(2), "it has no say", || {
        wait::is(tasks(&world) == before, tasks(&world))?;
        let files = world.archived_files();
        wait::is(files == [name.as_str()], vec![files])
    });
    assert_eq!(jobs(&world, "backups", "done").len(), done);
    world.cli(&["queue", "resume"]).ok();
    world.await_archived();
}

#[test]
fn a_backfill_that_a_shutdown_interrupts_goes_on_with_the_next_worker() {
    let mut world = World::builder().quick_clouds().build();
    let directory = world.directory("old_wal");
    for number in 1..6 {
        let bytes = MAKER.bytes(number, Fill::Light);
        world.place_in(&directory, &MAKER.name(number), &bytes);
        world.originals_mut().remember(&MAKER.name(number), &bytes);
    }
    // Both clouds are held: a copy that one of them has lets the next file in.
    let gates = ["r2", "b2"].map(|cloud| world.cloud(cloud).proxy().hold("PUT", ".gz"));
    let first = world.worker_with(&[("worker.segments_in_flight", "1")]);
    let path = directory.display().to_string();
    let added = world
        .cli(&["--json", "enqueue", "backfill", "--dir", &path])
        .json();
    let id = added["id"].as_str().expect("an id").to_owned();
    for gate in &gates {
        gate.await_waiting(1);
    }
    first.terminate();
    first.await_log("shutting down");
    for gate in &gates {
        gate.open();
    }
    assert_eq!(shell_code(first.wait()), 0);
    let job = show(&world, &id);
    assert_eq!(
        (&job["state"], &job["attempts"]),
        (&"ready".into(), &0.into()),
        "given back at no cost: {job}"
    );
    assert_eq!(world.files_in(&directory).len(), 4);

    world.worker();
    await_state(&world, &id, "done");
    world.await_archived();
    assert_eq!(world.files_in(&directory), [""; 0]);
}
