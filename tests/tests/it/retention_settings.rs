//! Retention as it is set, previewed and started by archiving.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_037,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// Segments 1 to 8 are archived; those up to `last` are then made `days` old. No worker runs.
fn world_with_old_segments(last: u64, days: f64) -> World {
    let mut world = World::builder().quick_clouds().build();
    for number in 1..9 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    let worker = world.worker();
    world.await_archived();
    worker.terminate();
    worker.wait();
    world.rows(&format!(
        "UPDATE wal_files SET mtime = now() - interval '{days} days', \
         verified_at = now() - interval '{days} days', \
         registered_at = now() - interval '{days} days' WHERE name <= '{}'",
        MAKER.name(last)
    ));
    world
}

#[track_caller]
fn check_held(world: &World, numbers: std::ops::Range<u64>) {
    let wanted: Vec<String> = numbers
        .map(|number| format!("wal/{}.gz", MAKER.name(number)))
        .collect();
    for cloud in world.clouds() {
        let mut keys = cloud.bucket().keys("wal/");
        keys.retain(|key| !key.starts_with("wal/walferry-"));
        assert_eq!(keys, wanted, "{}", cloud.name());
    }
}

#[test]
fn retention_follows_an_archiving_cycle_without_a_scheduler_or_a_person() {
    let mut world = world_with_old_segments(1, 31.0);
    check_held(&world, 1..9);
    world.worker();
    world.hand_over(&MAKER.name(9), &MAKER.bytes(9, Fill::Light));
    eventually("the old segment left both clouds", || {
        let rows = world.rows("SELECT name FROM tombstones");
        let name = rows.first().and_then(|row| row[0].clone());
        wait::is(name == Some(MAKER.name(1)), rows)
    });
    eventually("the new one is archived", || {
        let left = world.archived_files();
        wait::is(left.is_empty(), left)
    });
    check_held(&world, 2..10);
}

#[test]
fn a_dry_run_prints_the_plan_with_reasons_and_deletes_nothing() {
    let world = world_with_old_segments(3, 31.0);
    let dry = world
        .cli(&["retention", "apply", "--dry-run", "--yes"])
        .ok();
    for number in 1..4 {
        let key = format!("wal/{}.gz", MAKER.name(number));
        let line = dry.lines().find(|line| line.contains(&key)).expect(&dry);
        let reason = "older than the window; no base backup is known";
        assert!(line.contains(reason), "{dry}");
        assert!(line.contains("b2") && line.contains("r2"), "{dry}");
    }
    assert!(dry.contains("archived within the window"), "{dry}");
    check_held(&world, 1..9);
    assert_eq!(world.backups().len(), 8);

    let plan = world.cli(&["--json", "retention", "plan"]).json();
    let prefix = &plan[0]["prefixes"][0];
    let reason = &prefix["deletions"][0]["reason"];
    assert_eq!(
        reason, "older than the window; no base backup is known",
        "{plan}"
    );
    let because = &prefix["kept"][0]["because"];
    assert_eq!(because, "archived within the window", "{plan}");
    check_held(&world, 1..9);
}

#[test]
fn the_window_is_a_setting() {
    let mut world = world_with_old_segments(3, 20.0);
    world.cli(&["retention", "apply", "--yes"]).ok();
    check_held(&world, 1..9);
    world.set("retention.days", "19");
    world.cli(&["retention", "apply", "--yes"]).ok();
    check_held(&world, 4..9);
}

#[test]
fn the_share_that_needs_a_person_is_a_setting() {
    let mut world = world_with_old_segments(3, 31.0);
    let refused = world.cli(&["retention", "apply"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    check_held(&world, 1..9);
    world.set("retention.max_delete_share", "40%");
    world.cli(&["retention", "apply"]).ok();
    check_held(&world, 4..9);
}
