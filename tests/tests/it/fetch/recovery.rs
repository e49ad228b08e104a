//! Real recoveries and a real standby.

use std::path::{Path, PathBuf};

use tokio::runtime::Handle;
use walferry_tests::{Fault, Intake, Postgres, User, World, eventually, wait};

use super::{alone, builder};

/// A source whose base lies in `clone/data`, and what it holds in the end.
struct Source {
    world: World,
    rows: String,
    last: String,
    /// Names of what it handed over, in order.
    segments: Vec<String>,
}

const COUNT: &str = "SELECT count(*) || ' ' || coalesce(sum(n), 0) FROM t";

fn source(builder: walferry_tests::WorldBuilder) -> Source {
    let mut world = builder.build();
    let settings = world.protected("protected", Intake::Push);
    let mut server = world.postgres_with(settings);
    server.execute("CREATE TABLE t (n bigint)");
    server.base_backup(world.folder(), "clone", &["-X", "none"]);
    for _ in 0..6 {
        server.execute("INSERT INTO t SELECT generate_series(1, 1000)");
        server.switch();
    }
    let rows = server.value(COUNT);
    let last = server.switch();
    eventually("the server has handed everything over", || {
        let archived = server.archiver("last_archived_wal");
        wait::is(archived == last, archived)
    });
    world.originals_mut().remember_archived_by(&server);
    server.stop();
    let worker = world.worker();
    world.await_archived();
    worker.terminate();
    worker.wait();
    alone(&mut world);
    let names = world.originals().names();
    let segments = names.into_iter().filter(|name| name.len() == 24).collect();
    Source {
        world,
        rows,
        last,
        segments,
    }
}

/// `restore_command`: the world's environment, and `walferry fetch` with these flags.
fn restore_command(world: &World, flags: &str) -> String {
    let script = world.folder().join("fetch.sh");
    let variables: String = world
        .environment()
        .iter()
        .map(|(name, value)| format!("export {name}='{value}'\n"))
        .collect();
    let program = world.program_path("walferry");
    let text = format!(
        "#!/bin/sh\n{variables}exec {} fetch {flags} \"$@\"\n",
        program.display()
    );
    std::fs::write(&script, text).expect("write a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("make it a program");
    format!("{} %f %p", script.display())
}

/// As `fetch.directory` has to be: PostgreSQL's user's alone.
fn own_directory(world: &World) -> PathBuf {
    let path = world.directory("ahead");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&path, mode).expect("nobody else's");
    path
}

fn signal(world: &World, name: &str) {
    let path = world.folder().join("clone/data").join(name);
    std::fs::write(&path, "").expect("write a signal file");
    User::Postgres.own(&path, None);
}

fn clone(world: &World, restore_command: &str) -> Postgres {
    clone_in(world.folder(), world.runtime().handle(), restore_command)
}

fn clone_in(folder: &Path, runtime: &Handle, restore_command: &str) -> Postgres {
    let options = [
        ("restore_command", restore_command),
        ("archive_mode", "off"),
        ("fsync", "off"),
        ("hot_standby", "on"),
        ("recovery_target_timeline", "latest"),
        ("wal_retrieve_retry_interval", "200ms"),
    ];
    Postgres::adopt("clone", folder, runtime, &options)
}

fn await_promoted(server: &Postgres) {
    eventually("recovery has ended", || {
        let recovering = server.value("SELECT pg_is_in_recovery()");
        wait::is(recovering == "f", recovering)
    });
}

fn timeline(server: &Postgres) -> String {
    server.value("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)")
}

#[test]
fn a_recovery_with_one_cloud_gone_for_good_reaches_the_last_row() {
    let Source {
        mut world,
        rows,
        last,
        ..
    } = source(builder().setting("fetch.prefetch", "64MiB"));
    let ahead = own_directory(&world);
    world.set("fetch.directory", &ahead.display().to_string());
    world.cloud("r2").proxy().fault(Fault::Blackhole);
    signal(&world, "recovery.signal");
    let flags = format!("--repository b2 --last {last}");
    let server = clone(&world, &restore_command(&world, &flags));
    await_promoted(&server);
    assert_eq!(server.value(COUNT), rows);
    assert_eq!(timeline(&server), "00000002");
    let mut ahead = std::fs::read_dir(&ahead).expect("list fetch.directory");
    assert!(ahead.next().is_some(), "segments were fetched ahead");
}

#[test]
fn an_outage_stops_a_recovery_and_never_ends_it_early() {
    let Source {
        world,
        rows,
        segments,
        ..
    } = source(builder());
    signal(&world, "recovery.signal");
    let held = &segments[segments.len() - 3];
    let gates: Vec<_> = world
        .clouds()
        .iter()
        .map(|cloud| cloud.proxy().hold("GET", held))
        .collect();
    let mut server = clone(&world, &restore_command(&world, ""));
    gates[0].await_waiting(1);
    assert_eq!(server.value("SELECT pg_is_in_recovery()"), "t");
    for cloud in world.clouds() {
        cloud.proxy().fault(Fault::Refuse);
    }
    for gate in &gates {
        gate.open();
    }
    let status = server.await_end();
    assert!(!status.success(), "recovery has to stop: {status:?}");
    assert_eq!(state(server.data()), "in archive recovery");

    for cloud in world.clouds() {
        cloud.proxy().pass();
    }
    server.start_again();
    await_promoted(&server);
    assert_eq!(server.value(COUNT), rows);
    assert_eq!(timeline(&server), "00000002");
}

/// What `pg_controldata` says of a stopped cluster.
fn state(data: &Path) -> String {
    let program = walferry_tests::environment::postgres_bin().join("pg_controldata");
    let mut command = User::Postgres.command(program);
    let said = walferry_tests::process::run(command.arg(data)).ok();
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Database cluster state:"));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
fn a_standby_lives_through_an_outage_and_is_promoted_when_told() {
    let Source { world, rows, .. } = source(builder());
    for cloud in world.clouds() {
        cloud.proxy().fault(Fault::Status(503));
    }
    signal(&world, "standby.signal");
    let outage = world.cloud("b2").proxy().count("GET", "wal/");
    // Nothing is there yet with which it could become consistent.
    let command = restore_command(&world, "");
    let (folder, runtime) = (world.folder().to_owned(), world.runtime().handle().clone());
    let server = std::thread::scope(|scope| {
        let starting = scope.spawn(|| clone_in(&folder, &runtime, &command));
        eventually("the standby asks again and again", || {
            let asked = world.cloud("b2").proxy().count("GET", "wal/");
            wait::is(asked > outage + 6, asked)
        });
        assert!(!starting.is_finished(), "it lives, and waits");
        for cloud in world.clouds() {
            cloud.proxy().pass();
        }
        starting.join().expect("the standby starts")
    });
    eventually("the standby has every row", || {
        let found = server.try_query(COUNT)?;
        let found = found[0][0].clone().unwrap_or_default();
        wait::is(found == rows, found)
    });
    assert_eq!(server.value("SELECT pg_is_in_recovery()"), "t");
    server.execute("SELECT pg_promote()");
    await_promoted(&server);
    server.execute("INSERT INTO t VALUES (0)");
    assert_eq!(timeline(&server), "00000002");
}

/// `docs/recovery.md`, by hand: a base from the cloud that is left, and WAL up to the second.
#[test]
fn a_base_backup_and_fetch_bring_a_database_back_to_the_second_from_one_cloud() {
    let mut world = builder().build();
    let settings = world.protected("protected", Intake::Push);
    let mut server = world.postgres_with(settings);
    server.execute("CREATE TABLE t (n bigint)");
    server.execute("INSERT INTO t SELECT generate_series(1, 1000)");
    world.set("clusters.main.replication", &server.url("postgres"));
    let taken = world.cli(&["--json", "backup"]);
    assert_eq!(taken.code, 0, "{taken:?}");
    let label = taken.json()["label"].as_str().expect("a label").to_owned();
    server.execute("INSERT INTO t SELECT generate_series(1001, 5000)");
    let rows = server.value(COUNT);
    let moment = server.value("SELECT clock_timestamp()");
    // What comes later is not to come back.
    std::thread::sleep(std::time::Duration::from_millis(20));
    server.execute("DROP TABLE t");
    let last = server.switch();
    eventually("the server has handed everything over", || {
        let archived = server.archiver("last_archived_wal");
        wait::is(archived == last, archived)
    });
    server.stop();
    world.worker();
    eventually("the last segment is VERIFIED", || {
        let backups = world.backups();
        let status = backups.get(&last).map(|backup| backup.status.clone());
        wait::is(status.as_deref() == Some("VERIFIED"), status)
    });

    // The machine, the catalog, Redis and a cloud are lost.
    alone(&mut world);
    world.cloud("r2").proxy().fault(Fault::Blackhole);
    let data = crate::backups::unpacked(&world, world.cloud("b2"), &label);
    let signal = data.join("recovery.signal");
    std::fs::write(&signal, "").expect("write recovery.signal");
    crate::backups::shell(
        data.parent().expect("its folder"),
        "chmod 700 data && chown -R --reference=../protected/data . ",
    );
    let command = restore_command(&world, &format!("--repository b2 --last {last}"));
    let options = [
        ("restore_command", command.as_str()),
        ("recovery_target_time", moment.as_str()),
        ("recovery_target_action", "promote"),
        ("archive_mode", "off"),
        ("fsync", "off"),
    ];
    let runtime = world.runtime().handle();
    let restored = Postgres::adopt("unpacked-b2", world.folder(), runtime, &options);
    await_promoted(&restored);
    assert_eq!(restored.value(COUNT), rows);
    assert_eq!(timeline(&restored), "00000002");
}
