//! Handing over: what `push` promises PostgreSQL, and files that have to wait.

use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Intake, User, World, eventually, users, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_004,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

#[test]
fn push_needs_nothing_but_the_directory_and_leaves_mode_0640() {
    users::need_two_users();
    let mut world = World::builder().bare().build();
    let bytes = MAKER.bytes(1, Fill::Rows);
    let file = world.source(&MAKER.name(1), &bytes);
    world.push(&file).ok();
    let stored = world.archive().join(MAKER.name(1));
    assert!(std::fs::read(&stored).expect("stored") == bytes);
    let facts = std::fs::metadata(&stored).expect("stored");
    assert_eq!(facts.mode() & 0o7777, 0o640);
    assert_eq!(
        facts.gid(),
        users::SHARED_GROUP,
        "the directory's group, for the worker to read"
    );
}

#[test]
fn push_of_the_same_file_again_is_success_and_of_another_content_is_refused() {
    let mut world = World::builder().bare().build();
    let first = MAKER.bytes(1, Fill::Rows);
    let file = world.source(&MAKER.name(1), &first);
    world.push(&file).ok();
    world.push(&file).ok();
    let file = world.source(&MAKER.name(1), &MAKER.seed(9).bytes(1, Fill::Rows));
    let refused = world.push(&file);
    assert!((1..=125).contains(&refused.code), "{refused:?}");
    assert!(refused.stderr.contains("HINT:"), "{refused:?}");
    let stored = std::fs::read(world.archive().join(MAKER.name(1))).expect("stored");
    assert!(stored == first, "nothing is overwritten");
}

#[test]
fn push_starts_in_milliseconds() {
    let mut world = World::builder().bare().build();
    let file = world.source(&MAKER.name(1), &MAKER.bytes(1, Fill::Empty));
    world.push(&file).ok();
    // The best of ten: the machine may be busy with other tests.
    let best = (0..10)
        .map(|_| {
            let start = Instant::now();
            world.push(&file).ok();
            start.elapsed()
        })
        .min()
        .expect("ten");
    assert!(best.as_millis() < 100, "push took {best:?}");
}

#[test]
fn what_basic_archive_leaves_is_archived_by_a_worker_of_the_servers_user() {
    let mut world = World::builder()
        .quick_clouds()
        .walferry_as(User::Postgres)
        .build();
    let server = world.postgres(Intake::BasicArchive);
    world.worker();
    server.switch();
    server.switch();
    let last = server.switch();
    eventually("the server has handed over its last segment", || {
        let archived = server.archiver("last_archived_wal");
        wait::is(archived == last, archived)
    });
    world.originals_mut().remember_archived_by(&server);
    world.await_archived();
}

#[test]
fn what_basic_archive_leaves_is_archived_by_another_user_with_group_access() {
    users::need_two_users();
    let mut world = World::builder().quick_clouds().build();
    let settings = world
        .protected("protected", Intake::BasicArchive)
        .initdb("--allow-group-access");
    let server = world.postgres_with(settings);
    world.worker();
    server.switch();
    server.switch();
    let last = server.switch();
    eventually("the server has handed over its last segment", || {
        let archived = server.archiver("last_archived_wal");
        wait::is(archived == last, archived)
    });
    world.originals_mut().remember_archived_by(&server);
    world.await_archived();
}

#[test]
fn a_segment_of_another_system_is_refused_and_stays() {
    let mut world = World::builder().quick_clouds().build();
    world.worker();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.await_archived();
    let stranger = Maker {
        system_id: 7_399_999_999_999_999_999,
        ..MAKER
    };
    world.place(&stranger.name(2), &stranger.bytes(2, Fill::Light));
    world.hand_over(&MAKER.name(3), &MAKER.bytes(3, Fill::Light));
    world.await_archived();
    assert_eq!(world.archived_files(), [stranger.name(2)]);
    world.compare_clouds();
}
