//! Promotion: partial segments, history files, and the new timeline.

use walferry_tests::{Intake, Postgres, World, eventually, wait};

#[test]
fn a_promoted_standby_hands_over_partial_history_and_its_own_timeline() {
    let mut world = World::builder().quick_clouds().build();
    world.worker();
    let mut primary = world.postgres(Intake::Push);
    primary.pgbench_init(1);
    primary.switch();
    primary.base_backup(world.folder(), "standby", &["-R", "-X", "stream"]);
    let push = world.push_command();
    let standby = Postgres::adopt(
        "standby",
        world.folder(),
        world.runtime().handle(),
        &[("archive_mode", "on"), ("archive_command", &push)],
    );
    primary.pgbench_run(50);
    let written = primary.value("SELECT pg_current_wal_flush_lsn()");
    eventually("the standby has it all", || {
        let behind = standby.value(&format!("SELECT pg_last_wal_replay_lsn() < '{written}'"));
        wait::is(behind == "f", behind)
    });
    primary.stop();

    standby.execute("SELECT pg_promote()");
    standby.pgbench_run(50);
    let last = standby.switch();
    assert!(last.starts_with("00000002"), "{last}");
    eventually(
        "the promoted server has handed over its last segment",
        || {
            let archived = standby.archiver("last_archived_wal");
            wait::is(archived == last, archived)
        },
    );
    assert_eq!(standby.archiver("failed_count"), "0");

    world.originals_mut().remember_archived_by(&standby);
    let names = world.originals().names();
    assert!(names.contains(&"00000002.history".to_owned()), "{names:?}");
    assert!(
        names.iter().any(|name| name.ends_with(".partial")),
        "{names:?}"
    );
    world.await_verified_within(std::time::Duration::from_secs(120));
}
