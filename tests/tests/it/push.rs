//! `walferry push` as PostgreSQL calls it: where it stores, when it refuses, and with which code.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use walferry_tests::process::{self, Finished};
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Intake, User, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_041,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// Runs `walferry` as PostgreSQL's user with these arguments and nothing but these variables.
fn walferry(world: &World, variables: &[(&str, &str)], arguments: &[&str]) -> Finished {
    let variables: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut command = User::Postgres.command(world.program_path("walferry"));
    process::environment(&mut command, &variables);
    process::run(command.current_dir(world.folder()).args(arguments))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn segment(world: &World, number: u64) -> String {
    text(&world.source(&MAKER.name(number), &MAKER.bytes(number, Fill::Light)))
}

/// Bytes of the segments that were handed over.
fn held(world: &World) -> u64 {
    let files = world.archived_files();
    let sizes = files
        .iter()
        .filter_map(|name| Some(world.archive().join(name).metadata().ok()?.len()));
    sizes.sum()
}

#[test]
fn at_its_limit_push_refuses_and_postgresql_keeps_every_segment_until_there_is_room() {
    const LIMIT: u64 = 3 << 20;
    let mut world = World::builder().quick_clouds().build();
    let push = format!("WALFERRY_SPOOL_LIMIT=3MiB {}", world.push_command());
    let settings = world
        .protected("protected", Intake::Push)
        .initdb("--wal-segsize=1")
        .option("archive_command", &push);
    let server = world.postgres_with(settings);
    let mut last = String::new();
    for _ in 0..6 {
        last = server.switch();
    }
    eventually("push refuses", || {
        let failed = server.archiver("failed_count");
        wait::is(failed != "0", failed)
    });
    let log = server.report(200);
    for part in [
        "is refused: archive directory",
        "its limit is 3145728",
        "HINT: PostgreSQL keeps",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(held(&world) <= LIMIT, "{:?}", world.archived_files());
    let waits = server.pg_wal().join(format!("archive_status/{last}.ready"));
    assert!(
        waits.exists() && server.pg_wal().join(&last).exists(),
        "{last} is kept"
    );

    world.worker();
    eventually("all of it is handed over once there is room", || {
        // After a failure the archiver waits for a minute, or until something wakes it.
        server.execute("SELECT pg_reload_conf()");
        let archived = server.archiver("last_archived_wal");
        wait::is(archived >= last, archived)
    });
    world.originals_mut().remember_archived_by(&server);
    assert!(
        world.originals().len() >= 6,
        "{:?}",
        world.originals().names()
    );
    world.await_archived();
}

#[test]
fn a_limit_in_bytes_or_as_a_share_is_a_flag_too() {
    let world = World::builder().bare().build();
    let archive = text(&world.archive());
    let push = |number: u64, limit: &[&str]| {
        let file = segment(&world, number);
        let arguments = [&["push", "--directory", &archive], limit, &[&file]].concat();
        walferry(&world, &[], &arguments)
    };
    push(1, &["--limit-bytes", "1MiB"]).ok();
    let refused = push(2, &["--limit-bytes", "1MiB"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("its limit is 1048576"),
        "{refused:?}"
    );
    let refused = push(2, &["--limit-share", "0.0001%"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("% full, the limit is 0.0 %"),
        "{refused:?}"
    );
    assert_eq!(world.archived_files(), [MAKER.name(1)]);
    push(2, &["--limit-share", "100%"]).ok();
}

#[test]
fn the_mode_of_what_push_stores_is_a_flag_and_a_setting() {
    let world = World::builder().bare().build();
    let archive = text(&world.archive());
    let directory = ("WAL_ARCHIVE_DIR", archive.as_str());
    let mode = |number: u64| {
        let stored = world.archive().join(MAKER.name(number));
        stored.metadata().expect("stored").mode() & 0o7777
    };
    let files: Vec<String> = (1..4).map(|number| segment(&world, number)).collect();
    walferry(&world, &[directory], &["push", "--mode", "0644", &files[0]]).ok();
    assert_eq!(mode(1), 0o644);
    let setting = ("WALFERRY_SPOOL_FILE_MODE", "0600");
    walferry(&world, &[directory, setting], &["push", &files[1]]).ok();
    assert_eq!(mode(2), 0o600);
    let both = &["push", "--mode", "0660", &files[2]];
    walferry(&world, &[directory, setting], both).ok();
    assert_eq!(mode(3), 0o660, "a flag wins over the environment");
}

#[test]
fn whatever_goes_wrong_the_exit_code_lets_postgresqls_archiver_live() {
    let world = World::builder().bare().build();
    let archive = text(&world.archive());
    let here = ("WAL_ARCHIVE_DIR", archive.as_str());
    let file = segment(&world, 1);
    let gone = text(&world.folder().join("gone"));
    let both = format!("old={archive},new={gone}");
    let wrong_file = world.folder().join("wrong.toml");
    std::fs::write(&wrong_file, "[spool").expect("write a configuration");
    let wrong_file = text(&wrong_file);
    let short = world.source(&MAKER.name(2), b"short");
    let short = text(&short);
    for (what, code, variables, arguments) in [
        ("no file", 2, &[here][..], &["push"][..]),
        (
            "an unknown flag",
            2,
            &[here],
            &["push", "--no-such-flag", &file],
        ),
        (
            "two limits",
            2,
            &[here],
            &[
                "push",
                "--limit-bytes",
                "1GiB",
                "--limit-share",
                "9%",
                &file,
            ],
        ),
        (
            "a limit that is none",
            1,
            &[here],
            &["push", "--limit-bytes", "lots", &file],
        ),
        (
            "a mode that is none",
            1,
            &[here],
            &["push", "--mode", "rw", &file],
        ),
        (
            "no configuration there",
            1,
            &[here],
            &["--config", &gone, "push", &file],
        ),
        (
            "a configuration cut",
            1,
            &[here],
            &["--config", &wrong_file, "push", &file],
        ),
        (
            "no directory there",
            1,
            &[("WAL_ARCHIVE_DIR", &gone)],
            &["push", &file],
        ),
        (
            "a file for a directory",
            1,
            &[("WAL_ARCHIVE_DIR", &file)],
            &["push", &file],
        ),
        (
            "several directories",
            1,
            &[("WAL_ARCHIVE_DIR", &both)],
            &["push", &file],
        ),
        ("no source there", 1, &[here], &["push", &MAKER.name(9)]),
        ("no WAL", 1, &[here], &["push", &wrong_file]),
        ("a segment cut", 1, &[here], &["push", &short]),
    ] {
        let finished = walferry(&world, variables, arguments);
        assert_eq!(finished.code, code, "{what}: {finished:?}");
        // Of wrong usage clap says what would be right.
        let way_out = if code == 2 { "--help" } else { "HINT: " };
        assert!(finished.stderr.contains(way_out), "{what}: {finished:?}");
    }
    assert_eq!(world.archived_files(), [""; 0]);
}

#[test]
fn a_flag_says_where_to_store_before_the_environment_and_the_environment_before_the_file() {
    let world = World::builder().bare().build();
    let [by_file, by_variable, by_set] =
        ["by-file", "by-variable", "by-set"].map(|name| text(&world.directory(name)));
    let configuration = world.folder().join("walferry.toml");
    // The password of the protected server, which monitoring needs, cannot be read here.
    let sections = format!(
        "[clusters.main]\ndirectories = '{by_file}'\nconnection_file = '/run/secrets/gone'\n"
    );
    std::fs::write(&configuration, sections).expect("write a configuration");
    let configuration = text(&configuration);
    let file = segment(&world, 1);
    let variable = ("WAL_ARCHIVE_DIR", by_variable.as_str());
    let named = ("WALFERRY_CONFIG", configuration.as_str());
    let set = format!("clusters.main.directories={by_set}");
    for (directory, variables, flags) in [
        (&by_file, &[named][..], &[][..]),
        (&by_variable, &[named, variable], &[]),
        (&by_set, &[named, variable], &["--set", &set]),
    ] {
        let arguments = [flags, &["push", &file]].concat();
        walferry(&world, variables, &arguments).ok();
        assert_eq!(world.files_in(Path::new(directory)), [MAKER.name(1)]);
    }
}
