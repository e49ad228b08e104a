//! A path that somebody else wrote leads nowhere: in a job's payload, in an object's key.

use serde_json::json;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_062,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// A backfill in the queue whose payload somebody has changed, as whoever can write to Redis
/// may; its id.
fn enqueue(world: &World, name: &str, directory: &str, args: &serde_json::Value) -> String {
    let added = ["--json", "enqueue", "backfill", "--dir", directory];
    let added = world.cli(&added).json();
    let id = added["id"].as_str().expect("an id").to_owned();
    let keys = world.redis().strings(&["KEYS", &format!("*:task:{id}")]);
    assert_eq!(keys.len(), 1, "{keys:?}");
    let payload = json!({"name": name, "version": 1, "args": args}).to_string();
    world
        .redis()
        .command(&["HSET", &keys[0], "payload", &payload]);
    id
}

#[test]
fn a_job_whose_paths_or_names_climb_is_a_dead_letter_at_once_and_touches_nothing() {
    let world = World::builder().quick_clouds().build();
    let old = world.directory("old_wal");
    let bytes = MAKER.bytes(1, Fill::Empty);
    world.place_in(&old, &MAKER.name(1), &bytes);
    let old = old.display().to_string();
    let archive = world.archive().display().to_string();
    let backfill = |directory: &str, from: &str| json!({"cluster": "main", "directory": directory, "from": from});
    let first = MAKER.name(1);
    let climbing = [
        backfill(&format!("{archive}/../old_wal"), &first),
        backfill("old_wal", &first),
        backfill("../old_wal", &first),
        backfill("", &first),
        backfill(&format!("{old}\u{1b}[2J"), &first),
        backfill(&old, "../000000010000000000000001"),
        backfill(&old, "/etc/passwd"),
    ];
    let mut jobs: Vec<String> = climbing
        .iter()
        .map(|args| enqueue(&world, "backfill", &old, args))
        .collect();
    // Of another shape: no field of it is looked at.
    let shapes = [
        ("retention", json!({"prefix": "../"})),
        ("continuous-wal-archiving", json!({"directory": "/etc"})),
        (
            "backfill",
            json!({"cluster": "main", "directory": ["/etc"]}),
        ),
    ];
    jobs.extend(
        shapes
            .iter()
            .map(|(name, args)| enqueue(&world, name, &old, args)),
    );
    // A cluster is looked up by name, and another worker may know it: tried again.
    let args = json!({"cluster": "../main", "directory": old});
    let elsewhere = enqueue(&world, "backfill", &old, &args);

    world.worker();
    for id in &jobs {
        eventually("it is dead", || {
            let job = world.cli(&["--json", "queue", "show", id]).json();
            wait::is(job["state"] == "dead" && job["attempts"] == 1, job)
        });
    }
    eventually("its cluster is not known", || {
        let job = world.cli(&["--json", "queue", "show", &elsewhere]).json();
        let error = job["error"].as_str().unwrap_or_default();
        wait::is(error.contains("is not configured"), job.clone())
    });
    world.cli(&["queue", "cancel", &elsewhere]);
    assert_eq!(world.files_in(old.as_ref()), [MAKER.name(1)]);
    assert_eq!(world.number("SELECT count(*) FROM wal_files"), 0);
    for cloud in world.clouds() {
        assert!(cloud.bucket().keys("").is_empty(), "{}", cloud.name());
    }
}

#[test]
fn a_backfill_of_a_directory_that_climbs_or_is_relative_is_not_enqueued() {
    let world = World::builder().quick_clouds().build();
    for directory in ["old_wal", "../old_wal", "/var/lib/../../etc", "/a\nb"] {
        let said = world.cli(&["enqueue", "backfill", "--dir", directory]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.contains("HINT:"), "{said:?}");
        assert!(!said.stderr.contains("a\nb"), "{said:?}");
    }
    assert!(world.redis().strings(&["KEYS", "*:task:*"]).is_empty());
}
