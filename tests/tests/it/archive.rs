//! The main loop, end to end: handed over, queued, archived, verified, deleted.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Intake, World, eventually, wait};

#[test]
fn every_segment_pushed_is_verified_in_two_clouds_and_deleted() {
    let mut world = World::new();
    let maker = Maker::new(7_300_000_000_000_000_001).segment_size(16 << 20);
    for (number, fill) in [
        (4, Fill::Rows),
        (5, Fill::Light),
        (6, Fill::Random),
        (7, Fill::Empty),
    ] {
        let file = world.source(&maker.name(number), &maker.bytes(number, fill));
        world.push(&file).ok();
    }
    assert_eq!(world.archived_files(), world.originals().names());

    world.worker();
    world.scheduler();

    world.await_archived();
    world.assert_written_once();
    check_rows(&world);
}

/// The relation `backups` says what is in the clouds.
fn check_rows(world: &World) {
    let backups = world.backups();
    assert_eq!(backups.len(), world.originals().len());
    for (name, backup) in backups {
        let original = world.originals().get(&name).expect("handed over");
        assert_eq!(backup.status, "VERIFIED");
        assert_eq!(
            backup.checksum.as_deref(),
            Some(original.sha256.as_str()),
            "{name}"
        );
        assert_eq!(backup.local_path, "", "{name}");
        let key = format!("wal/{name}.gz");
        assert_eq!(backup.r2_path.as_deref(), Some(key.as_str()));
        assert_eq!(backup.b2_path.as_deref(), Some(key.as_str()));
    }
}

/// A real server archives a few segments and a base backup's label by this
/// intake; everything it believes archived is in both clouds.
fn check_intake(intake: Intake) {
    let mut world = World::new();
    let server = world.postgres(intake);
    world.worker();
    world.scheduler();

    server.pgbench_init(1);
    for _ in 0..3 {
        server.pgbench_run(200);
        server.switch();
    }
    server.base_backup(world.folder(), "base", &["-X", "none"]);
    let last = server.switch();
    eventually("the server has handed over its last segment", || {
        let archived = server.archiver("last_archived_wal");
        wait::is(archived == last, archived)
    });
    assert_eq!(server.archiver("failed_count"), "0");

    world.originals_mut().remember_archived_by(&server);
    let names = world.originals().names();
    assert!(names.len() >= 5, "{names:?}");
    assert!(
        names.iter().any(|name| name.ends_with(".backup")),
        "{names:?}"
    );
    world.await_archived();
}

#[test]
fn what_a_server_hands_over_through_push_ends_up_in_both_clouds() {
    check_intake(Intake::Push);
}

#[test]
fn what_a_server_hands_over_through_cp_ends_up_in_both_clouds() {
    check_intake(Intake::Cp);
}

#[test]
fn a_file_that_arrives_is_archived_at_once_without_waiting_for_the_tick() {
    let mut world = World::builder().quick_clouds().build();
    world.worker();
    // No scheduler: nobody ticks.
    let maker = Maker::new(7_300_000_000_000_000_001);
    world.hand_over(&maker.name(1), &maker.bytes(1, Fill::Light));
    world.await_archived();
}
