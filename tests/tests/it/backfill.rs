//! `walferry enqueue backfill`: a directory that nobody watches, or a part of it, once.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_025,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

#[test]
fn a_backfill_archives_just_its_range_and_a_dry_run_enqueues_nothing() {
    let mut world = World::builder().quick_clouds().build();
    let directory = world.directory("old_wal");
    for number in 1..7 {
        let bytes = MAKER.bytes(number, Fill::Light);
        world.place_in(&directory, &MAKER.name(number), &bytes);
        if (2..5).contains(&number) {
            world.originals_mut().remember(&MAKER.name(number), &bytes);
        }
    }
    let path = directory.display().to_string();
    let (from, to) = (MAKER.name(2), MAKER.name(4));
    let enqueue = [
        "enqueue", "backfill", "--dir", &path, "--from", &from, "--to", &to,
    ];

    let keys = |world: &World| {
        let mut keys = world.redis().strings(&["KEYS", "*"]);
        keys.sort();
        keys
    };
    let before = keys(&world);
    let dry = [&["--json"], &enqueue[..], &["--dry-run"]].concat();
    let dry = world.cli(&dry);
    assert_eq!(dry.code, 0, "{dry:?}");
    let dry = dry.json();
    assert_eq!(dry["outcome"], "dry-run", "{dry}");
    assert_eq!(dry["id"], serde_json::Value::Null, "{dry}");
    assert_eq!(keys(&world), before, "Redis is as it was");

    let added = world.cli(&[&["--json"], &enqueue[..]].concat()).json();
    let id = added["id"].as_str().expect("an id").to_owned();
    world.worker();
    world.await_archived_within(std::time::Duration::from_secs(60));
    eventually("the job is done", || {
        let job = world.cli(&["--json", "queue", "show", &id]).json();
        if job["state"] == "done" {
            Ok(())
        } else {
            Err(job)
        }
    });
    let left = [1, 5, 6].map(|number| MAKER.name(number));
    assert_eq!(world.files_in(&directory), left);
    assert_eq!(world.backups().len(), 3);
    world.assert_written_once();
}
