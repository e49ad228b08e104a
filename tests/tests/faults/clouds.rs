//! What a cloud can do to an upload, on one and on both.

use walferry_tests::{Fault as Strike, eventually, wait};

use crate::fault::Fault;
use crate::stage::Stage;

/// Which clouds a fault strikes.
const R2: &[&str] = &["r2"];
const B2: &[&str] = &["b2"];
const BOTH: &[&str] = &["r2", "b2"];

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        refused("clouds.refused.r2", R2),
        refused("clouds.refused.b2", B2),
        refused("clouds.refused.both", BOTH),
    ]
}

fn refused(name: &'static str, clouds: &'static [&'static str]) -> Fault {
    struck(
        name,
        "b2 or r2 goes on alone; healed from it",
        clouds,
        Strike::Refuse,
    )
    .told_by_check("refused", "critical", "cannot connect")
}

/// A fault of the way to some clouds, told by the breaker's metric and `status`, through which
/// the other cloud goes on.
fn struck(
    name: &'static str,
    outcome: &'static str,
    clouds: &'static [&'static str],
    strike: Strike,
) -> Fault {
    Fault::new(name, outcome)
        .begin(move |stage| {
            for cloud in clouds {
                stage.world.cloud(cloud).proxy().fault(strike);
            }
        })
        .meanwhile(move |stage| others_go_on(stage, clouds))
        .end(move |stage| {
            for cloud in clouds {
                stage.world.cloud(cloud).proxy().pass();
            }
        })
}

/// The clouds that are well have everything that was handed over by the test so far.
fn others_go_on(stage: &Stage, struck: &[&str]) {
    let names = stage.world.originals().names();
    for cloud in BOTH.iter().filter(|cloud| !struck.contains(cloud)) {
        eventually(&format!("{cloud} goes on"), || {
            let keys = stage.world.cloud(cloud).bucket().keys("wal/");
            let missing = names
                .iter()
                .filter(|name| !keys.contains(&format!("wal/{name}.gz")))
                .count();
            wait::is(
                missing == 0,
                format!("{missing} of {} are missing", names.len()),
            )
        });
    }
}
