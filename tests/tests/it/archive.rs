//! The main loop, end to end: handed over, queued, archived, verified, deleted.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Intake, Postgres, User, World, eventually, users, wait};

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

fn owner(path: &Path) -> u32 {
    path.metadata().expect("it is there").uid()
}

/// A real server archives a few segments and a base backup's label into the
/// world's directory; everything it believes archived is in both clouds.
fn check_intake(mut world: World, server: &Postgres, walferry: User) {
    users::need_two_users();
    let version = server.value("SHOW server_version_num");
    assert!(
        version.starts_with("15"),
        "PostgreSQL 15 is promised: {version}"
    );
    let worker = world.worker();
    world.scheduler();
    let worker = owner(Path::new(&format!("/proc/{}", worker.process().id())));
    let two_users = worker != owner(server.data());
    assert_eq!(two_users, walferry != User::Postgres);

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

    world.originals_mut().remember_archived_by(server);
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
    let world = World::new();
    let server = world.postgres(Intake::Push);
    check_intake(world, &server, User::Walferry);
}

#[test]
fn what_a_server_hands_over_through_cp_ends_up_in_both_clouds() {
    let world = World::new();
    let server = world.postgres(Intake::Cp);
    check_intake(world, &server, User::Walferry);
}

#[test]
fn what_a_server_hands_over_through_basic_archive_ends_up_in_both_clouds() {
    let world = World::builder().walferry_as(User::Postgres).build();
    let server = world.postgres(Intake::BasicArchive);
    check_intake(world, &server, User::Postgres);
}

#[test]
fn what_basic_archive_hands_over_with_group_access_ends_up_in_both_clouds() {
    let world = World::new();
    let settings = world
        .protected("protected", Intake::BasicArchive)
        .initdb("--allow-group-access");
    let server = world.postgres_with(settings);
    check_intake(world, &server, User::Walferry);
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
