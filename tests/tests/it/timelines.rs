//! Promotion: partial segments, history files, and the new timeline.

use std::collections::BTreeSet;

use walferry_tests::{Intake, Postgres, User, World, eventually, wait};

#[test]
fn a_promoted_standby_hands_over_partial_history_and_its_own_timeline() {
    let world = World::builder().quick_clouds().build();
    check_promotion(world, Intake::Push);
}

#[test]
fn a_promoted_standby_hands_over_the_same_through_basic_archive() {
    let world = World::builder()
        .quick_clouds()
        .walferry_as(User::Postgres)
        .build();
    check_promotion(world, Intake::BasicArchive);
}

fn standby_of(primary: &Postgres, world: &World) -> Postgres {
    primary.base_backup(world.folder(), "standby", &["-R", "-X", "stream"]);
    // Its settings, how it archives among them, are the primary's.
    Postgres::adopt("standby", world.folder(), world.runtime().handle(), &[])
}

fn check_promotion(mut world: World, intake: Intake) {
    world.worker();
    let mut primary = world.postgres(intake);
    primary.pgbench_init(1);
    primary.switch();
    let standby = standby_of(&primary, &world);
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

/// The names in `archive_status` that end so, without that end.
fn with_status(server: &Postgres, status: &str) -> BTreeSet<String> {
    let folder = server.pg_wal().join("archive_status");
    let entries = std::fs::read_dir(folder).expect("list archive_status");
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(status).map(str::to_owned)
        })
        .collect()
}

#[test]
fn push_hands_over_the_history_that_was_gone_before_it_became_the_archive_command() {
    const HISTORY: &str = "00000002.history";
    let mut world = World::builder().quick_clouds().build();
    // PostgreSQL believes that it is archived, and will never hand it over again.
    let settings = world
        .protected("primary", Intake::Push)
        .initdb("--wal-segsize=1")
        .option("archive_command", "/bin/true");
    let mut primary = world.postgres_with(settings);
    let mut standby = standby_of(&primary, &world);
    primary.stop();
    standby.execute("SELECT pg_promote()");
    eventually("nothing waits to be archived, the history neither", || {
        let (ready, done) = (
            with_status(&standby, ".ready"),
            with_status(&standby, ".done"),
        );
        wait::is(ready.is_empty() && done.contains(HISTORY), (ready, done))
    });
    let before = with_status(&standby, ".done");

    let push = world.push_command();
    standby.set(&[("archive_command", &push)]);
    let last = standby.switch();
    assert!(last.starts_with("00000002"), "{last}");
    eventually("the segment is handed over", || {
        let archived = standby.archiver("last_archived_wal");
        wait::is(archived == last, archived)
    });
    let mut handed_over: BTreeSet<String> = with_status(&standby, ".done");
    handed_over.retain(|name| !before.contains(name));
    assert!(handed_over.contains(&last), "{handed_over:?}");
    handed_over.insert(HISTORY.to_owned());
    for name in handed_over {
        let bytes = std::fs::read(standby.pg_wal().join(&name)).expect("pg_wal keeps it");
        world.originals_mut().remember(&name, &bytes);
    }
    world.worker();
    world.await_archived();
}
