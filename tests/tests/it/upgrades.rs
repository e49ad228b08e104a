//! `walferry cluster upgrade` and the files of the system before it.

use std::collections::BTreeMap;

use walferry_tests::originals::Originals;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const OLD: Maker = Maker {
    system_id: 7_300_000_000_000_000_035,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};
const NEW: Maker = Maker {
    system_id: 7_300_000_000_000_000_036,
    seed: 1,
    ..OLD
};

#[test]
fn what_the_old_system_hands_over_after_cluster_upgrade_goes_into_its_own_prefix() {
    let mut world = World::builder().quick_clouds().build();
    world.hand_over(&OLD.name(1), &OLD.bytes(1, Fill::Light));
    let worker = world.worker();
    world.await_archived();
    worker.terminate();
    worker.wait();

    // Too early: the last segment of the old system was not even registered.
    world
        .cli(&["cluster", "upgrade", "--prefix", "wal-16/"])
        .ok();
    world.hand_over(&OLD.name(2), &OLD.bytes(2, Fill::Light));
    world.worker();
    world.await_archived();
    let systems = || {
        let rows = world.rows("SELECT key_prefix, system_id FROM prefixes");
        let pairs = rows.into_iter().map(|row| (row[0].clone(), row[1].clone()));
        pairs.collect::<BTreeMap<_, _>>()
    };
    let old = Some(OLD.system_id.to_string());
    let expected = [
        (Some("wal/".into()), old.clone()),
        (Some("wal-16/".into()), None),
    ];
    assert_eq!(systems(), BTreeMap::from(expected));

    // pg_upgrade: the next prefix was kept for the new system.
    let mut upgraded = Originals::default();
    let bytes = NEW.bytes(3, Fill::Light);
    upgraded.remember(&NEW.name(3), &bytes);
    world.place(&NEW.name(3), &bytes);
    eventually("the new system's segment is archived and deleted", || {
        let left = world.archived_files();
        wait::is(left.is_empty(), left)
    });
    for cloud in world.clouds() {
        upgraded
            .compare(cloud.bucket(), "wal-16/")
            .unwrap_or_else(|wrong| panic!("{}: {wrong}", cloud.name()));
    }
    world.compare_clouds();
    let new = Some(NEW.system_id.to_string());
    let expected = [(Some("wal/".into()), old), (Some("wal-16/".into()), new)];
    assert_eq!(systems(), BTreeMap::from(expected));
}
