//! Points of `push` and of the quarantine's move, which run as processes of their own.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Intake, eventually, wait};

use super::{Scenario, WORKER};
use crate::stage::{MAKER, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    // A real server, whose archive_command dies.
    Scenario {
        part: "push",
        die: |stage, point| {
            let order = stage.world.folder().join("kill-at");
            std::fs::write(&order, point).expect("write the order");
            let command = format!(
                "WALFERRY_TEST_KILL_AT=$(cat {}) {}",
                order.display(),
                stage.world.push_command()
            );
            let settings = stage
                .world
                .protected("protected", Intake::Push)
                .initdb("--wal-segsize=1")
                .option("archive_command", &command);
            let server = stage.world.postgres_with(settings);
            server.switch();
            let log = stage.world.folder().join("logs/protected.err");
            let died = format!("kill point {point} reached");
            eventually("push has died", || {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                wait::is(log.contains(&died), log)
            });
            std::fs::write(&order, "").expect("no order any more");
            stage.server = Some(server);
        },
        restart: |stage| {
            (WORKER.restart)(stage);
            let server = stage.server.as_ref().expect("the server runs");
            let last = server.switch();
            // PostgreSQL starts its archiver again within ten seconds.
            eventually("PostgreSQL was told that all is archived", || {
                let archived = server.archiver("last_archived_wal");
                wait::is(archived == last, archived)
            });
            stage.world.originals_mut().remember_archived_by(server);
        },
        ..WORKER
    },
    // What died before its exit code was 0 is handed over again.
    Scenario {
        part: "push-again",
        die: |stage, point| {
            let (name, bytes) = stage.next();
            let source = stage.world.source(&name, &bytes);
            stage.world.push_and_die(&source, "push.sync.after");
            stage.world.push_and_die(&source, point);
        },
        restart: |stage| push_again(stage, MAKER),
        ..WORKER
    },
    Scenario {
        part: "push-history",
        die: |stage, point| {
            let later = MAKER.timeline(2);
            let text = b"1\t0/100000\tno recovery target specified\n";
            stage.world.source("00000002.history", text);
            let source = stage
                .world
                .source(&later.name(1), &later.bytes(1, Fill::Light));
            stage.world.push_and_die(&source, point);
        },
        restart: |stage| {
            push_again(stage, MAKER.timeline(2));
            let text = b"1\t0/100000\tno recovery target specified\n";
            stage
                .world
                .originals_mut()
                .remember("00000002.history", text);
        },
        ..WORKER
    },
    // Under a wrong name; the segment itself is handed over all the same.
    Scenario {
        part: "quarantine",
        die: |stage, point| {
            stage.hand_over(1);
            stage
                .world
                .place("not-a-wal-file", b"precious all the same");
            stage.world.set_variable("WALFERRY_TEST_KILL_AT", point);
            let died = stage.world.cli(&["quarantine", "move", "not-a-wal-file"]);
            stage.world.set_variable("WALFERRY_TEST_KILL_AT", "");
            assert_eq!(died.code, 137, "{died:?}");
            assert!(in_directory_or_aside(stage), "it is under one of its names");
        },
        after: |stage| {
            // Whoever is not sure does it again: done, or nothing left to do.
            let again = stage.world.cli(&["quarantine", "move", "not-a-wal-file"]);
            assert!(
                again.code == 0 || again.stderr.contains("HINT:"),
                "{again:?}"
            );
            assert!(in_directory_or_aside(stage));
            assert!(!stage.world.archive().join("not-a-wal-file").exists());
        },
        ..WORKER
    },
];

/// PostgreSQL calls `push` until it exits with 0; then a worker archives.
fn push_again(stage: &mut Stage, maker: Maker) {
    let source = stage.world.folder().join("source").join(maker.name(1));
    let pushed = stage.world.push(&source);
    assert_eq!(pushed.code, 0, "{pushed:?}");
    (WORKER.restart)(stage);
}

fn in_directory_or_aside(stage: &Stage) -> bool {
    let archive = stage.world.archive();
    let folders = [
        archive.clone(),
        archive.join(".walferry/quarantine"),
        archive.join("quarantine"),
    ];
    folders.iter().any(|folder| {
        std::fs::read(folder.join("not-a-wal-file"))
            .is_ok_and(|bytes| bytes == b"precious all the same")
    })
}
