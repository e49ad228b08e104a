//! Points of healing: a copy that one cloud lacks is made from the other's.

use walferry_tests::wal::Fill;
use walferry_tests::{Fault, eventually, wait};

use super::{Scenario, WORKER, end, kill_worker};
use crate::invariants::Allowed;
use crate::stage::{MAKER, Stage};

/// b2 was down: what is verified in r2 alone lies in the directory, too, until it is healed.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        part: "heal",
        prepare: only_in_r2,
        die: kill_worker,
        ..WORKER
    },
    Scenario {
        part: "heal-stream",
        build: || Stage::builder().setting("archive.streaming_threshold", "1MiB"),
        prepare: |stage| {
            stage.make(2 << 20, Fill::Random);
            only_in_r2(stage);
        },
        die: kill_worker,
        ..WORKER
    },
    // And then somebody deleted r2's object behind our back.
    Scenario {
        part: "withdraw",
        prepare: |stage| {
            only_in_r2(stage);
            let key = format!("wal/{}.gz", MAKER.name(1));
            stage.world.cloud("r2").bucket().delete(&key);
        },
        die: kill_worker,
        allowed: Allowed {
            rewritten: true,
            ..WORKER.allowed
        },
        ..WORKER
    },
];

/// Segment 1 is verified in r2 and nowhere else.
fn only_in_r2(stage: &mut Stage) {
    stage.world.cloud("b2").proxy().fault(Fault::Refuse);
    stage.hand_over(1);
    let worker = stage.worker(&[]);
    eventually("r2 holds it", || {
        let rows = stage
            .world
            .number("SELECT count(*) FROM backups WHERE r2_path IS NOT NULL");
        wait::is(rows == 1, rows)
    });
    end(&worker);
    stage.world.cloud("b2").proxy().pass();
}
