//! Points of `walferry fetch`: the temporary file, the rename, the segments fetched ahead.

use std::path::{Path, PathBuf};

use walferry_tests::process::{self, Finished};
use walferry_tests::{Intake, User, eventually, wait};

use super::{Scenario, WORKER, archive_all, backup};
use crate::stage::{MAKER, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        part: "fetch",
        build: || Stage::builder().setting("fetch.prefetch", "off"),
        prepare: |stage| {
            stage.hand_over(2);
            archive_all(stage);
            stage.world.directory("spot");
        },
        die: |stage, point| {
            let spot = stage.world.folder().join("spot");
            let died = fetch(stage, &spot, point, &MAKER.name(1), DESTINATION);
            assert_eq!(died.code, 137, "it should have died at {point}: {died:?}");
            // Whole, or not there.
            let there = spot.join(DESTINATION);
            assert!(!there.exists() || whole(stage, &there, &MAKER.name(1)));
        },
        after: |stage| {
            let spot = stage.world.folder().join("spot");
            let again = fetch(stage, &spot, "", &MAKER.name(2), DESTINATION);
            assert_eq!(again.code, 0, "{again:?}");
            assert!(whole(stage, &spot.join(DESTINATION), &MAKER.name(2)));
            assert_eq!(
                names(&spot),
                [DESTINATION],
                "what died left nothing for ever"
            );
        },
        ..WORKER
    },
    Scenario {
        part: "fetch-ahead",
        prepare: |stage| {
            let settings = stage.world.protected("protected", Intake::Push);
            stage.server = Some(stage.world.postgres_with(settings));
            for _ in 0..4 {
                let server = stage.server.as_ref().expect("a server");
                server.execute("SELECT pg_logical_emit_message(false, '', 'x')");
                server.switch();
            }
            backup::remember_handed_over(stage);
            archive_all(stage);
            let ahead = stage.world.directory("ahead");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(&ahead, mode).expect("nobody else's");
            let path = ahead.display().to_string();
            stage.world.set("fetch.directory", &path);
        },
        die: |stage, point| {
            recovery_fetches(stage, point, 0);
            let program = stage.world.program_path("walferry");
            eventually("the process that fetches ahead is dead", || {
                let running = fetching_ahead(&program);
                wait::is(running == 0, running)
            });
            let ahead = stage.world.folder().join("ahead");
            let spaces = names(&ahead);
            let found = names(&ahead.join(&spaces[0]));
            let segments = found
                .iter()
                .filter(|name| name.starts_with("0000") && !name.ends_with(".part"))
                .count();
            assert_eq!(segments > 0, point.ends_with("rename.after"), "{found:?}");
        },
        after: |stage| {
            for number in 1..4 {
                recovery_fetches(stage, "", number);
            }
        },
        ..WORKER
    },
];

const DESTINATION: &str = "restored";

/// Fetches the server's segment of that number as its recovery would.
fn recovery_fetches(stage: &Stage, point: &str, number: usize) {
    let data = stage.server.as_ref().expect("a server").data().to_owned();
    let names = stage.world.originals().names();
    let segments: Vec<_> = names.iter().filter(|name| name.len() == 24).collect();
    let destination = "pg_wal/RECOVERYXLOG";
    let fetched = fetch(stage, &data, point, segments[number], destination);
    assert_eq!(fetched.code, 0, "{fetched:?}");
    assert!(whole(stage, &data.join(destination), segments[number]));
}

fn fetch(stage: &Stage, directory: &Path, point: &str, file: &str, to: &str) -> Finished {
    let mut command = User::Postgres.command(stage.world.program_path("walferry"));
    process::environment(&mut command, stage.world.environment());
    command.env("WALFERRY_TEST_KILL_AT", point);
    process::run(command.current_dir(directory).args(["fetch", file, to]))
}

fn whole(stage: &Stage, path: &Path, name: &str) -> bool {
    let bytes = std::fs::read(path).expect("read what was delivered");
    let original = stage.world.originals().get(name).expect("handed over");
    hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes)) == original.sha256
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("list a directory");
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// How many processes of this world's program fetch ahead.
fn fetching_ahead(program: &Path) -> usize {
    let processes: Vec<PathBuf> = std::fs::read_dir("/proc")
        .expect("list processes")
        .flatten()
        .map(|entry| entry.path().join("cmdline"))
        .collect();
    let lines = processes.iter().filter_map(|path| std::fs::read(path).ok());
    lines
        .filter(|line| {
            let line = String::from_utf8_lossy(line);
            line.starts_with(&*program.to_string_lossy()) && line.contains("fetch-ahead")
        })
        .count()
}
