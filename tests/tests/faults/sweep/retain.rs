//! Points of retention: the marks, the rows, the objects, in that order.

use walferry_tests::{eventually, wait};

use super::{Scenario, WORKER, archive_all};
use crate::stage::{MAKER, Stage};

/// Segments 1 to 3 of 6 are older than the window.
pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    part: "retain",
    build: Stage::builder,
    prepare: |stage| {
        stage.hand_over(6);
        archive_all(stage);
        stage.world.rows(&format!(
            "UPDATE wal_files SET mtime = clock_timestamp() - interval '31 days', \
             verified_at = clock_timestamp() - interval '31 days', \
             registered_at = clock_timestamp() - interval '31 days' WHERE name <= '{}'",
            MAKER.name(3)
        ));
        // What may go is not expected any more; what may not is compared in the end.
        for number in 1..4 {
            stage.world.originals_mut().forget(&MAKER.name(number));
        }
    },
    die: |stage, point| {
        stage.world.set_variable("WALFERRY_TEST_KILL_AT", point);
        let died = stage.world.cli(&["retention", "apply", "--yes"]);
        stage.world.set_variable("WALFERRY_TEST_KILL_AT", "");
        assert_eq!(died.code, 137, "it should have died at {point}: {died:?}");
        for number in 1..4 {
            assert_told(stage, number);
        }
    },
    restart: |stage| {
        // The dead run's lease is ten minutes; a person need not wait for them in a test.
        stage
            .world
            .rows("UPDATE retention_runs SET renewed_at = clock_timestamp() - interval '11 min'");
        stage.world.cli(&["retention", "apply", "--yes"]).ok();
        (WORKER.restart)(stage);
    },
    after: |stage| {
        eventually("nothing is half deleted", || {
            let left = stage.world.number(
                "SELECT (SELECT count(*) FROM wal_files WHERE status = 'EXPIRING') \
                 + (SELECT count(*) FROM copies WHERE state = 'expiring')",
            );
            wait::is(left == 0, left)
        });
        for cloud in ["r2", "b2"] {
            let keys = stage.world.cloud(cloud).bucket().keys("wal/0");
            assert_eq!(keys.len(), 3, "{cloud}: {keys:?}");
        }
        let tombstones = stage.world.number("SELECT count(*) FROM tombstones");
        assert_eq!(tombstones, 3, "each is remembered");
    },
    ..WORKER
}];

/// A file whose deletion has begun is VERIFIED to nobody, and one that is VERIFIED is there.
fn assert_told(stage: &Stage, number: u64) {
    let name = MAKER.name(number);
    let verified = stage.world.number(&format!(
        "SELECT count(*) FROM backups WHERE filename = '{name}.gz' AND status = 'VERIFIED'"
    ));
    for cloud in ["r2", "b2"] {
        let there = stage
            .world
            .cloud(cloud)
            .bucket()
            .head(&format!("wal/{name}.gz"));
        assert!(
            verified == 0 || there.is_some(),
            "{name} is VERIFIED and not in {cloud}"
        );
    }
}
