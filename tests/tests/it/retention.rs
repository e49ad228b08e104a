//! Retention against real buckets, one of them versioned as all of B2's are.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Cloud, World};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_006,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// Six segments and a history file are archived; segments 1 to 3 and the history
/// file are then made `days` old.
fn world_with_old_segments(days: f64) -> World {
    let mut world = World::builder().versioned_b2().build();
    for number in 1..7 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    world.hand_over(
        "00000002.history",
        b"1\t0/500000\tno recovery target specified\n",
    );
    let worker = world.worker();
    world.await_archived();
    // No run of its own beside those of the test.
    worker.terminate();
    worker.wait();
    world.rows(&format!(
        "UPDATE wal_files SET mtime = clock_timestamp() - interval '{days} days', \
         verified_at = clock_timestamp() - interval '{days} days', \
         registered_at = clock_timestamp() - interval '{days} days' \
         WHERE name <= '{}' OR name LIKE '%.history'",
        MAKER.name(3)
    ));
    world
}

fn keys(world: &World, numbers: std::ops::Range<u64>) -> Vec<String> {
    let mut keys: Vec<String> = numbers
        .map(|n| format!("wal/{}.gz", MAKER.name(n)))
        .collect();
    keys.push("wal/00000002.history.gz".into());
    assert_eq!(world.clouds().len(), 2);
    keys
}

/// What a cloud holds, without the marks that say whose the prefix is.
fn held(cloud: &Cloud) -> Vec<String> {
    let mut keys = cloud.bucket().keys("wal/");
    keys.retain(|key| !key.starts_with("wal/walferry-"));
    keys
}

#[test]
fn segments_older_than_30_days_leave_both_clouds_with_all_versions_and_history_stays() {
    let world = world_with_old_segments(30.01);
    let b2 = world.cloud("b2").bucket();
    // A second version of one object, as a repeated PUT leaves it.
    let key = format!("wal/{}.gz", MAKER.name(2));
    let body = b2.get(&key).expect("archived").body;
    b2.put(&key, &body);
    assert!(b2.versions(&key).len() >= 2);

    let plan = world.cli(&["--json", "retention", "plan"]);
    let text = plan.stdout.clone();
    for number in 1..4 {
        assert!(text.contains(&MAKER.name(number)), "{plan:?}");
    }
    world.cli(&["retention", "apply", "--yes"]).ok();

    for cloud in world.clouds() {
        assert_eq!(held(cloud), keys(&world, 4..7), "{}", cloud.name());
    }
    for number in 1..4 {
        let left = b2.versions(&format!("wal/{}.gz", MAKER.name(number)));
        assert!(left.is_empty(), "versions to pay for: {left:?}");
    }
    assert_eq!(world.number("SELECT count(*) FROM tombstones"), 3);
    assert_eq!(world.backups().len(), 4);
}

#[test]
fn segments_a_little_younger_than_30_days_stay() {
    let world = world_with_old_segments(29.99);
    world.cli(&["retention", "apply", "--yes"]).ok();
    for cloud in world.clouds() {
        assert_eq!(held(cloud), keys(&world, 1..7), "{}", cloud.name());
    }
}

#[test]
fn a_hold_stops_all_deletion_until_it_is_released() {
    let world = world_with_old_segments(31.0);
    world
        .cli(&["retention", "hold", "--reason", "restoring"])
        .ok();
    world.cli(&["retention", "apply", "--yes"]);
    for cloud in world.clouds() {
        assert_eq!(held(cloud), keys(&world, 1..7), "{}", cloud.name());
    }
    world.cli(&["retention", "release"]).ok();
    world.cli(&["retention", "apply", "--yes"]).ok();
    for cloud in world.clouds() {
        assert_eq!(held(cloud), keys(&world, 4..7), "{}", cloud.name());
    }
}

#[test]
fn a_plan_that_deletes_a_large_share_needs_a_persons_yes() {
    let world = world_with_old_segments(31.0);
    let refused = world.cli(&["retention", "apply"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(
        format!("{}{}", refused.stdout, refused.stderr).contains("--yes"),
        "{refused:?}"
    );
    for cloud in world.clouds() {
        assert_eq!(held(cloud), keys(&world, 1..7), "{}", cloud.name());
    }
}
