//! Clusters made with other sizes of segments than the usual 16 MiB.

use walferry_tests::{Intake, World, eventually, wait};

/// A real server with segments of so many MiB, through `push`.
fn check_size(mib: u64) {
    let mut world = World::builder().quick_clouds().build();
    let settings = world
        .protected("protected", Intake::Push)
        .initdb(&format!("--wal-segsize={mib}"));
    let server = world.postgres_with(settings);
    assert_eq!(server.segment_size(), mib << 20);
    world.worker();
    server.pgbench_init(1);
    server.switch();
    server.base_backup(world.folder(), "base", &["-X", "none"]);
    let last = server.switch();
    eventually("the server has handed over its last segment", || {
        let archived = server.archiver("last_archived_wal");
        wait::is(archived == last, archived)
    });
    assert_eq!(server.archiver("failed_count"), "0");
    world.originals_mut().remember_archived_by(&server);
    let size = world.originals().get(&last).map(|original| original.size);
    assert_eq!(size, Some(mib << 20));
    world.await_archived();
    let known = "SELECT count(DISTINCT segment_size) FROM prefixes WHERE segment_size = ";
    assert_eq!(world.number(&format!("{known}{}", mib << 20)), 1);
}

#[test]
fn a_server_with_segments_of_1_mib_is_archived() {
    check_size(1);
}

#[test]
fn a_server_with_segments_of_64_mib_is_archived() {
    check_size(64);
}
