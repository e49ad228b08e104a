//! A directory that fills while a cloud is down: one verified copy is enough for the local
//! file to go, but only where the setting says so, and never for VERIFIED.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Fault, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_021,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// b2 refuses; three segments are verified in r2.
fn world_with_b2_down(mark: &str) -> World {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.delete_after_one_copy_above", mark)
        .setting("archive.retry_base", "200ms")
        .setting("archive.retry_max", "1s")
        .build();
    world.cloud("b2").proxy().fault(Fault::Refuse);
    for number in 1..4 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    world.worker();
    eventually("r2 holds everything", || {
        let rows = world.number("SELECT count(*) FROM backups WHERE r2_path IS NOT NULL");
        wait::is(rows == 3, rows)
    });
    world
}

fn assert_not_verified(world: &World) {
    for (name, backup) in world.backups() {
        assert_ne!(backup.status, "VERIFIED", "{name}");
        assert_eq!(backup.b2_path, None, "{name}");
    }
}

#[test]
fn above_the_mark_one_copy_is_enough_to_delete_and_the_other_is_healed_from_cloud_to_cloud() {
    // Any file system in use is fuller than this.
    let world = world_with_b2_down("0.0001%");
    eventually("the local files are deleted", || {
        let left = world.archived_files();
        wait::is(left.is_empty(), left)
    });
    assert_not_verified(&world);
    world
        .originals()
        .compare(world.cloud("r2").bucket(), "wal/")
        .expect("what was deleted here is in r2");
    let check = world.cli(&["check"]);
    assert_ne!(check.code, 0, "a cloud is behind: {check:?}");

    world.cloud("b2").proxy().pass();
    world.await_archived();
    for number in 1..4 {
        let key = format!("{}.gz", MAKER.name(number));
        let reads = world.cloud("r2").proxy().count("GET", &key);
        assert!(reads > 0, "{key} can only have come from r2");
    }
    world.assert_written_once();
}

#[test]
fn below_the_mark_the_local_files_wait_for_all_copies() {
    let world = world_with_b2_down("99.999%");
    check_that_files_wait(&world);
}

#[test]
fn without_the_setting_the_local_files_wait_for_all_copies() {
    let world = world_with_b2_down("none");
    check_that_files_wait(&world);
}

fn check_that_files_wait(world: &World) {
    // The cycle that verified the copies in r2 also deletes, so its end is the moment after
    // which nothing would go any more.
    eventually("the claims were given back", || {
        let claimed = world.number("SELECT count(*) FROM wal_files WHERE claimed_by IS NOT NULL");
        wait::is(claimed == 0, claimed)
    });
    assert_eq!(world.archived_files(), world.originals().names());
    assert_not_verified(world);
    world.cloud("b2").proxy().pass();
    world.await_archived();
}
