//! How a segment is packed: by which threads, and the same way by every attempt.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_034,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

#[test]
fn a_later_attempt_packs_as_the_first_one_did() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.claim_lease", "3s")
        .setting("archive.claim_renew", "1s")
        .build();
    let key = format!("wal/{}.gz", MAKER.name(1));
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    let first = world.worker_with(&[("archive.level", "1")]);
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Rows));
    gate.await_waiting(1);
    // Written down before the PUT that has not come through yet.
    assert_eq!(
        world.rows("SELECT encoder, level FROM wal_files"),
        [[Some("fitted".to_owned()), Some("1".to_owned())]]
    );
    eventually("b2 holds the object", || {
        let object = world.cloud("b2").bucket().head(&key);
        wait::is(object.is_some(), "nothing")
    });
    first.kill();
    world.worker_with(&[("archive.level", "9")]);
    gate.open();
    world.await_archived();
    let [r2, b2] = ["r2", "b2"].map(|cloud| {
        let bucket = world.cloud(cloud).bucket();
        bucket.get(&key).expect("archived")
    });
    assert!(r2.body == b2.body, "a repeated PUT carries other bytes");
    for object in [r2, b2] {
        assert_eq!(object.header("x-amz-meta-wf-level"), Some("1".to_owned()));
    }
}

#[test]
fn a_worker_has_as_many_packing_threads_as_it_is_told_to() {
    let world = World::builder().quick_clouds().build();
    let worker = world.worker_with(&[("worker.pack_threads", "3")]);
    let tasks = format!("/proc/{}/task", worker.process().id());
    // A thread gives itself its name when it first runs.
    eventually("three threads for packing, and no more", || {
        let mut names: Vec<String> = std::fs::read_dir(&tasks)
            .expect("a running process")
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .filter(|name| name.starts_with("pack-"))
            .collect();
        names.sort();
        wait::is(names == ["pack-0", "pack-1", "pack-2"], names)
    });
}
