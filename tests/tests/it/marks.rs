//! The two marks in a prefix: whose it is, and which catalog acted there last.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_031,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};
const OWNER: &str = "wal/walferry-owner.json";
const CATALOG: &str = "wal/walferry-catalog.json";

fn codes(world: &World) -> Vec<String> {
    let check = world.cli(&["--json", "check"]).json();
    let findings = check["findings"].as_array().expect("a list");
    let codes = findings
        .iter()
        .filter_map(|finding| finding["code"].as_str());
    codes.map(str::to_owned).collect()
}

#[test]
fn a_prefix_that_holds_nothing_but_retentions_mark_is_archived_into() {
    let mut world = World::builder().quick_clouds().build();
    for cloud in world.clouds() {
        cloud.bucket().put(CATALOG, b"{}");
    }
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    let worker = world.worker();
    world.await_archived();
    worker.terminate();
    worker.wait();

    // Nor does `check` take such a prefix for somebody's past.
    let bucket = world.cloud("b2").bucket();
    for key in [format!("wal/{}.gz", MAKER.name(1)).as_str(), OWNER] {
        bucket.delete(key);
    }
    assert_eq!(bucket.keys("wal/"), [CATALOG]);
    let found = codes(&world);
    assert!(!found.contains(&"not-imported".to_owned()), "{found:?}");
    bucket.put("wal/README.txt", b"somebody's");
    let found = codes(&world);
    assert!(found.contains(&"not-imported".to_owned()), "{found:?}");
}

#[test]
fn retention_writes_no_mark_into_a_prefix_whose_system_is_unknown() {
    let mut world = World::builder().quick_clouds().build();
    let worker = world.worker();
    eventually("the cluster has its row", || {
        let rows = world.rows("SELECT key_prefix FROM prefixes WHERE system_id IS NULL");
        wait::is(rows.len() == 1, rows)
    });
    worker.terminate();
    worker.wait();
    world.cli(&["retention", "apply"]).ok();
    for cloud in world.clouds() {
        let keys = cloud.bucket().keys("");
        assert!(keys.is_empty(), "{}: {keys:?}", cloud.name());
    }
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    let worker = world.worker();
    world.await_archived();
    worker.terminate();
    worker.wait();
    world.cli(&["retention", "apply"]).ok();
    for cloud in world.clouds() {
        for mark in [OWNER, CATALOG] {
            let there = cloud.bucket().head(mark).is_some();
            assert!(there, "{mark} in {}", cloud.name());
        }
    }
}
