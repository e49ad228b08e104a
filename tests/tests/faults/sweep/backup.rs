//! Points of base backups: begun, objects, complete; copied, cleaned, kept.

use walferry_tests::{Fault, Intake, Rule, User, WorldBuilder, eventually, wait};

use super::{Scenario, WORKER, archive_all};
use crate::invariants::Allowed;
use crate::stage::Stage;

/// Dies while it takes a base, or before or after.
const TAKING: Scenario = Scenario {
    part: "backup",
    build: small_slices,
    prepare: start_server,
    die: |stage, point| die(stage, point, &["backup"]),
    restart: |stage| {
        begin_anew(stage);
        (WORKER.restart)(stage);
    },
    after: whole_or_not_there,
    ..WORKER
};

pub(crate) const SCENARIOS: &[Scenario] = &[
    TAKING,
    Scenario {
        part: "backup-history",
        prepare: start_promoted,
        restart: |stage| {
            // Nobody has handed it over: it is asked of the server.
            let pg_wal = stage.server.as_ref().expect("a server").pg_wal();
            let history = std::fs::read(pg_wal.join(HISTORY)).expect("read the history");
            stage.world.originals_mut().remember(HISTORY, &history);
            (TAKING.restart)(stage);
        },
        after: |stage| {
            whole_or_not_there(stage);
            for cloud in stage.world.clouds() {
                let found = cloud.bucket().head(&format!("wal/{HISTORY}.gz"));
                assert!(found.is_some(), "{} has no history", cloud.name());
            }
            let known = format!(
                "SELECT count(*) FROM wal_files WHERE name = '{HISTORY}' AND status = 'VERIFIED'"
            );
            assert_eq!(stage.world.number(&known), 1);
        },
        ..TAKING
    },
    Scenario {
        part: "base",
        die: |stage, point| {
            // What was stored is removed when no cloud goes on.
            if point.starts_with("base.clear") {
                for cloud in stage.world.clouds() {
                    let refused = Rule::new(Fault::Status(403)).on("PUT");
                    cloud.proxy().fault(refused.for_keys_with("base.tar/00001"));
                }
            }
            die(stage, point, &["backup"]);
            for cloud in stage.world.clouds() {
                cloud.proxy().pass();
            }
        },
        ..TAKING
    },
    Scenario {
        part: "base-copy",
        prepare: |stage| {
            start_server(stage);
            stage.world.cloud("b2").proxy().fault(Fault::Refuse);
            let taken = stage.world.cli(&["--json", "backup"]);
            stage.world.cloud("b2").proxy().pass();
            assert_eq!(taken.code, 1, "{taken:?}");
            let label = label(&taken.json());
            stage.world.cli(&["backups", "keep", &label]).ok();
        },
        allowed: MARKED_AGAIN,
        ..TAKING
    },
    Scenario {
        part: "base-clean",
        prepare: |stage| {
            start_server(stage);
            die(stage, "base.object-put.after", &["backup"]);
            forget_lease(stage);
        },
        ..TAKING
    },
    Scenario {
        part: "base-remove",
        ..EXPIRING
    },
    Scenario {
        part: "retain-base",
        ..EXPIRING
    },
    Scenario {
        part: "base-keep",
        prepare: |stage| {
            start_server(stage);
            stage.world.cli(&["backup"]).ok();
            let label = newest(stage);
            stage.world.cli(&["backups", "keep", &label]).ok();
        },
        die: |stage, point| die(stage, point, &keep(&newest(stage), point)),
        allowed: MARKED_AGAIN,
        restart: |stage| {
            let label = newest(stage);
            stage.world.cli(&["backups", "keep", &label]).ok();
            begin_anew(stage);
            (WORKER.restart)(stage);
        },
        after: |stage| {
            whole_or_not_there(stage);
            let kept = stage.world.number("SELECT count(*) FROM bases WHERE keep");
            assert_eq!(kept, 1);
        },
        ..TAKING
    },
];

/// `keep.json` is written over an earlier one.
const MARKED_AGAIN: Allowed = Allowed {
    rewritten: true,
    ..WORKER.allowed
};

/// Dies while retention lets a base go.
const EXPIRING: Scenario = Scenario {
    prepare: start_with_two_old,
    die: |stage, point| die(stage, point, &APPLY),
    restart: |stage| {
        // The dead run's lease is ten minutes; a person need not wait for them in a test.
        stage
            .world
            .rows("UPDATE retention_runs SET renewed_at = clock_timestamp() - interval '11 min'");
        stage.world.cli(&APPLY).ok();
        (WORKER.restart)(stage);
    },
    after: |stage| {
        whole_or_not_there(stage);
        for cloud in stage.world.clouds() {
            let keys = cloud.bucket().keys("base/");
            let labels = keys.iter().filter_map(|key| key.split('/').nth(1));
            let labels: std::collections::BTreeSet<&str> = labels.collect();
            assert_eq!(labels.len(), 1, "{}: {labels:?}", cloud.name());
        }
        let removed = "SELECT count(*) FROM base_copies WHERE state = 'removed'";
        assert_eq!(stage.world.number(removed), 2);
    },
    ..TAKING
};

const HISTORY: &str = "00000002.history";
const APPLY: [&str; 3] = ["retention", "apply", "--yes"];

/// The older one is needed for nothing.
fn start_with_two_old(stage: &mut Stage) {
    start_server(stage);
    for _ in 0..2 {
        stage.world.cli(&["backup"]).ok();
        // The next one removes its label from pg_wal.
        remember_handed_over(stage);
    }
    archive_all(stage);
    stage.world.rows(
        "UPDATE bases SET stopped_at = stopped_at - CASE \
            WHEN label = (SELECT min(label) FROM bases) THEN interval '40 days' \
            ELSE interval '35 days' END, started_at = started_at - interval '41 days'",
    );
}

fn small_slices() -> WorldBuilder {
    Stage::builder().setting("backup.slice_size", "1MiB")
}

/// A server, of whose WAL one segment is archived.
fn start_server(stage: &mut Stage) {
    let settings = stage.world.protected("protected", Intake::Push);
    stage.server = Some(stage.world.postgres_with(settings));
    archive_one(stage);
}

/// One on timeline 2, whose history nobody hands over: nothing was archived before.
fn start_promoted(stage: &mut Stage) {
    let settings = stage
        .world
        .protected("protected", Intake::Cp)
        .option("archive_mode", "off")
        .option("restore_command", "false");
    let mut server = stage.world.postgres_with(settings);
    server.stop();
    let signal = server.data().join("recovery.signal");
    std::fs::write(&signal, "").expect("write recovery.signal");
    User::Postgres.own(&signal, None);
    server.start_again();
    eventually("the server is on timeline 2", || {
        let name = server.try_query("SELECT pg_walfile_name(pg_current_wal_lsn())")?;
        let name = name[0][0].clone().unwrap_or_default();
        wait::is(name.starts_with("00000002"), name)
    });
    server.set(&[("archive_mode", "on")]);
    server.stop();
    server.start_again();
    stage.server = Some(server);
    archive_one(stage);
}

fn archive_one(stage: &mut Stage) {
    let server = stage.server.as_ref().expect("a server");
    let url = server.url("postgres");
    server.switch();
    remember_handed_over(stage);
    stage.world.set("clusters.main.replication", &url);
    archive_all(stage);
}

/// A base makes the server hand over a label, and at its end the segment that it is in.
pub(super) fn remember_handed_over(stage: &mut Stage) {
    let server = stage.server.as_ref().expect("a server");
    let waiting = server.pg_wal().join("archive_status");
    eventually("the server has handed everything over", || {
        let waiting = std::fs::read_dir(&waiting).expect("list archive_status");
        let waiting: Vec<_> = waiting
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().ends_with(".ready"))
            .collect();
        wait::is(waiting.is_empty(), waiting)
    });
    stage.world.originals_mut().remember_archived_by(server);
}

fn die(stage: &mut Stage, point: &str, arguments: &[&str]) {
    stage.world.set_variable("WALFERRY_TEST_KILL_AT", point);
    let died = stage.world.cli(arguments);
    stage.world.set_variable("WALFERRY_TEST_KILL_AT", "");
    assert_eq!(died.code, 137, "it should have died at {point}: {died:?}");
    remember_handed_over(stage);
}

fn keep<'a>(label: &'a str, point: &str) -> Vec<&'a str> {
    let mut arguments = vec!["backups", "keep", label];
    if point.contains("delete") {
        arguments.push("--off");
    }
    arguments
}

/// The dead run's lease is 15 s; a test need not wait for them.
fn forget_lease(stage: &Stage) {
    stage
        .world
        .rows("UPDATE base_runs SET held_by = NULL, lease_until = NULL");
}

fn begin_anew(stage: &mut Stage) {
    forget_lease(stage);
    let next = stage.world.cli(&["backup"]);
    assert_eq!(next.code, 0, "{next:?}");
    remember_handed_over(stage);
}

fn label(taken: &serde_json::Value) -> String {
    taken["label"].as_str().expect("a label").to_owned()
}

fn newest(stage: &Stage) -> String {
    label(&stage.world.cli(&["--json", "backups"]).json()["bases"][0])
}

/// Every label that is left is complete in both clouds, and the catalog says so.
fn whole_or_not_there(stage: &mut Stage) {
    let listed = stage.world.cli(&["--json", "backups"]).json();
    let bases = listed["bases"].as_array().cloned().unwrap_or_default();
    assert!(!bases.is_empty(), "{listed:#}");
    for base in &bases {
        for holding in base["repositories"].as_array().into_iter().flatten() {
            assert_eq!(holding["state"], "complete", "{listed:#}");
        }
    }
    let known = "SELECT count(*) FROM base_copies WHERE state = 'complete'";
    let known = stage.world.number(known);
    assert_eq!(known, 2 * i64::try_from(bases.len()).expect("a few"));
}
