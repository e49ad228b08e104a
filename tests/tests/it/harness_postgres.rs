//! The harness's PostgreSQL is real, runs as another user, and archives.

use walferry_tests::{Intake, User, World, eventually, wait};

#[test]
fn a_server_hands_its_segments_over_through_cp_and_the_originals_are_remembered() {
    let mut world = World::builder().bare().build();
    let server = world.postgres_with(
        world
            .protected("protected", Intake::Cp)
            .initdb("--wal-segsize=1"),
    );
    assert_eq!(server.segment_size(), 1 << 20);
    let name = server.switch();
    eventually("the segment lies in the archive directory", || {
        let files = world.archived_files();
        wait::is(files.contains(&name), files)
    });
    eventually("the server knows that it was archived", || {
        let last = server.archiver("last_archived_wal");
        wait::is(last == name, last)
    });
    world.originals_mut().remember_archived_by(&server);
    let original = world.originals().get(&name).expect("remembered");
    assert_eq!(original.size, 1 << 20);
}

#[test]
fn a_crashed_server_comes_back_with_what_was_committed() {
    let world = World::builder().bare().build();
    let mut server = world.postgres(Intake::Cp);
    server.execute("CREATE TABLE t AS SELECT 1 AS a");
    server.crash();
    server.try_query("SELECT 1").expect_err("nobody answers");
    server.start_again();
    assert_eq!(server.value("SELECT a FROM t"), "1");
}

#[test]
fn two_servers_of_a_world_are_two_systems() {
    let world = World::builder().bare().build();
    let one = world.postgres_with(world.protected("one", Intake::Cp));
    let two = world.postgres_with(world.protected("two", Intake::Cp));
    assert_ne!(one.system_id(), two.system_id());
}

#[test]
fn the_server_and_walferry_are_two_users_who_share_the_directory() {
    walferry_tests::users::need_two_users();
    let world = World::builder().bare().build();
    let touch = |user: User, name: &str| {
        let mut command = user.command("/usr/bin/touch");
        walferry_tests::process::run(command.arg(world.archive().join(name))).code
    };
    assert_eq!(touch(User::Postgres, "a"), 0);
    assert_eq!(touch(User::Walferry, "b"), 0);
    assert_ne!(touch(User::Stranger, "c"), 0);
}
