//! `import` brings a catalog that was restored from its own backup into line with the buckets.

use walferry_tests::World;
use walferry_tests::wal::{Fill, Maker};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_034,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

#[test]
fn after_a_restore_retention_refuses_until_import_has_compared_and_what_is_missing_is_healed() {
    let mut world = World::builder().quick_clouds().build();
    for number in 1..5 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    let worker = world.worker();
    world.await_archived();
    worker.terminate();
    worker.wait();
    world.cli(&["retention", "apply"]).ok();

    // Restored to a moment before that run; and somebody deleted by hand.
    world.rows("UPDATE catalog_identity SET epoch = 1");
    world.rows("UPDATE compared_marks SET epoch = 1");
    let key = format!("wal/{}.gz", MAKER.name(3));
    world.cloud("b2").bucket().delete(&key);
    let refused = world.cli(&["retention", "apply"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    for word in ["restored from the past", &key, "walferry import"] {
        assert!(refused.stdout.contains(word), "{word}: {refused:?}");
    }

    let import = world.cli(&["--json", "import"]);
    assert_eq!(import.code, 0, "{import:?}");
    let import = import.json();
    let due: Vec<_> = import["compared"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["repository"].clone(), one["due"].clone()))
        .collect();
    assert_eq!(due, [("r2".into(), 0.into()), ("b2".into(), 1.into())]);
    assert_eq!(world.backups()[&MAKER.name(3)].status, "PENDING");
    world.cli(&["retention", "apply"]).ok();
    world.worker();
    world.await_archived();
}
