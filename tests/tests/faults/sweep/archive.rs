//! Points of the handler: registering, claiming, packing, putting, completing, deleting.

use std::io::Write as _;

use walferry_tests::wal::Fill;
use walferry_tests::{eventually, wait};

use super::{Scenario, WORKER, archive_all, kill_worker};
use crate::invariants::Allowed;
use crate::stage::{MAKER, Stage};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        part: "register",
        ..WORKER
    },
    // Not the first segment: the owner mark, which is put in the same way, is there already.
    Scenario {
        part: "archive",
        prepare: |stage| {
            stage.hand_over(1);
            archive_all(stage);
        },
        ..WORKER
    },
    Scenario {
        part: "delete",
        ..WORKER
    },
    Scenario {
        part: "owner-mark",
        ..WORKER
    },
    Scenario {
        part: "read-back",
        build: || Stage::builder().setting("archive.verify", "read-back"),
        ..WORKER
    },
    Scenario {
        part: "stream",
        build: || Stage::builder().setting("archive.streaming_threshold", "1MiB"),
        prepare: |stage| stage.make(2 << 20, Fill::Random),
        ..WORKER
    },
    // A history file alone: the system that it belongs to is not known yet.
    Scenario {
        part: "release",
        die: |stage, point| {
            hand_over_history(stage);
            kill_worker(stage, point);
        },
        restart: |stage| {
            stage.hand_over(1);
            (WORKER.restart)(stage);
        },
        ..WORKER
    },
    Scenario {
        part: "archive-history",
        prepare: |stage| {
            stage.hand_over(1);
            archive_all(stage);
        },
        die: |stage, point| {
            hand_over_history(stage);
            kill_worker(stage, point);
        },
        ..WORKER
    },
    Scenario {
        part: "archive-label",
        prepare: |stage| {
            stage.hand_over(1);
            archive_all(stage);
        },
        die: |stage, point| {
            hand_over_label(stage);
            kill_worker(stage, point);
        },
        ..WORKER
    },
    Scenario {
        part: "register-suspect",
        prepare: |stage| stage.world.place("not-a-wal-file", b"x"),
        after: |stage| {
            let left = stage.world.archived_files();
            assert_eq!(left, ["not-a-wal-file"], "it stays where it is");
        },
        ..WORKER
    },
    // Somebody's clean-up removed a file before it was archived; PostgreSQL still has it.
    Scenario {
        part: "register-gone",
        prepare: |stage| {
            register_only(stage);
            let (name, _) = stage.again(1);
            stage.world.clean_up(&name);
        },
        die: |stage, point| {
            // What was removed is not expected before it is handed over again.
            stage.world.originals_mut().forget(&MAKER.name(1));
            kill_worker(stage, point);
        },
        restart: |stage| {
            let (name, bytes) = stage.again(1);
            stage.world.hand_over(&name, &bytes);
            (WORKER.restart)(stage);
        },
        ..WORKER
    },
    // The same file once more, as after a crash of PostgreSQL's server.
    Scenario {
        part: "archive-again",
        prepare: |stage| {
            stage.hand_over(1);
            archive_all(stage);
        },
        die: |stage, point| {
            let (name, bytes) = stage.again(1);
            stage.world.hand_over(&name, &bytes);
            kill_worker(stage, point);
        },
        ..WORKER
    },
    Scenario {
        part: "other-content",
        prepare: |stage| {
            stage.hand_over(2);
            archive_all(stage);
        },
        die: |stage, point| {
            let other = MAKER.seed(9).bytes(1, Fill::Light);
            stage.world.place(&MAKER.name(1), &other);
            kill_worker(stage, point);
        },
        restart: |stage| {
            (WORKER.restart)(stage);
            eventually("the other content is in quarantine, in place", || {
                let listed = stage.world.cli(&["--json", "quarantine", "ls"]).json();
                let text = listed.to_string();
                wait::is(text.contains("other-content"), text)
            });
            let aside = ["quarantine", "move", &MAKER.name(1)];
            stage.world.cli(&aside).ok();
        },
        ..WORKER
    },
    Scenario {
        part: "put-back",
        prepare: |stage| {
            stage.hand_over(1);
            kill_worker(stage, "delete.rename.after");
        },
        die: kill_worker,
        ..WORKER
    },
    // PostgreSQL has handed the file over again while its older self lay aside.
    Scenario {
        part: "put-back-same",
        prepare: |stage| {
            stage.hand_over(1);
            kill_worker(stage, "delete.rename.after");
            let (name, bytes) = stage.again(1);
            stage.world.place(&name, &bytes);
        },
        die: kill_worker,
        ..WORKER
    },
    // An older system has packed the segment in its own way.
    Scenario {
        part: "adopt",
        prepare: |stage| {
            stage.hand_over(1);
            archive_all(stage);
            let (name, bytes) = stage.next();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&bytes).expect("memory takes it");
            let object = gzip.finish().expect("memory takes it");
            stage
                .world
                .cloud("b2")
                .bucket()
                .put(&format!("wal/{name}.gz"), &object);
            stage.world.hand_over(&name, &bytes);
        },
        die: kill_worker,
        allowed: Allowed {
            rewritten: false,
            ..WORKER.allowed
        },
        ..WORKER
    },
];

/// A worker registers segment 1 and can archive it nowhere.
fn register_only(stage: &mut Stage) {
    use walferry_tests::Fault;

    for cloud in ["r2", "b2"] {
        stage.world.cloud(cloud).proxy().fault(Fault::Refuse);
    }
    stage.hand_over(1);
    let worker = stage.worker(&[]);
    eventually("segment 1 is registered", || {
        let rows = stage.world.number("SELECT count(*) FROM wal_files");
        wait::is(rows == 1, rows)
    });
    super::end(&worker);
    for cloud in ["r2", "b2"] {
        stage.world.cloud(cloud).proxy().pass();
    }
}

fn hand_over_history(stage: &mut Stage) {
    let text = b"1\t0/500000\tno recovery target specified\n";
    stage.world.hand_over("00000002.history", text);
}

/// The label of a base backup within segment 1, as PostgreSQL 15 writes it.
fn hand_over_label(stage: &mut Stage) {
    let name = MAKER.name(1);
    let text = format!(
        "START WAL LOCATION: 0/100028 (file {name})\nSTOP WAL LOCATION: 0/100100 (file {name})\n\
         CHECKPOINT LOCATION: 0/100060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
         START TIME: 2026-11-20 02:00:00 UTC\nLABEL: nightly\nSTART TIMELINE: 1\n\
         STOP TIME: 2026-11-20 02:00:05 UTC\nSTOP TIMELINE: 1\n"
    );
    stage
        .world
        .hand_over(&format!("{name}.00000028.backup"), text.as_bytes());
}
