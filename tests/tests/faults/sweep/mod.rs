//! kill -9 at each point: start the program that dies there, let it die, check what lies there,
//! start it again, and wait until nothing is missing.

mod archive;
mod backup;
mod fetch;
mod heal;
mod intake;
mod queue;
mod retain;

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use walferry_tests::WorldBuilder;
use walferry_tests::world::Program;

use crate::cell::Cell;
use crate::invariants::{self, Allowed};
use crate::stage::{BOUND, Stage};

/// How the points of one part are reached.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// The part of a point's name in front of its first dot.
    part: &'static str,
    /// The world.
    build: fn() -> WorldBuilder,
    /// Up to the moment before the program that dies is started.
    prepare: fn(&mut Stage),
    /// Starts it with the order to die at a point, and makes it go there. Returns when it is dead.
    die: fn(&mut Stage, &str),
    /// Starts it again; then everything handed over is awaited.
    restart: fn(&mut Stage),
    /// What has to be seen in the end, besides the invariants.
    after: fn(&mut Stage),
    allowed: Allowed,
}

/// What most scenarios have in common: a worker dies on its first segment, the next goes on.
const WORKER: Scenario = Scenario {
    part: "",
    build: Stage::builder,
    prepare: |_| {},
    die: |stage, point| {
        stage.hand_over(1);
        kill_worker(stage, point);
    },
    restart: |stage| {
        stage.worker(&[]);
    },
    after: |_| {},
    allowed: Allowed {
        copies: 0,
        rewritten: false,
        foreign: false,
    },
};

/// The scenario for a point, by its part.
pub(crate) fn scenario(point: &str) -> Option<Scenario> {
    let part = point.split('.').next()?;
    [
        archive::SCENARIOS,
        backup::SCENARIOS,
        fetch::SCENARIOS,
        heal::SCENARIOS,
        intake::SCENARIOS,
        queue::SCENARIOS,
        retain::SCENARIOS,
    ]
    .concat()
    .into_iter()
    .find(|scenario| scenario.part == part)
}

/// Runs one cell.
pub(crate) fn run(name: &str, point: &str) {
    let scenario = scenario(point).unwrap_or_else(|| panic!("no scenario reaches {point}"));
    let mut stage = Stage::new((scenario.build)());
    (scenario.prepare)(&mut stage);
    (scenario.die)(&mut stage, point);
    invariants::hold(&stage.world, scenario.allowed);
    let died = Instant::now();
    (scenario.restart)(&mut stage);
    stage.world.await_archived_within(BOUND);
    let recovered = died.elapsed();
    stage.await_nothing_claimed();
    (scenario.after)(&mut stage);
    invariants::hold(&stage.world, scenario.allowed);
    invariants::archived_once(&stage.logs());
    Cell {
        name,
        mode: "at rest",
        outcome: "all VERIFIED, nothing twice",
        recovered,
    }
    .record();
}

/// A program that is told to die at a point that nobody reaches lives.
pub(crate) fn check_other_point() {
    let mut stage = Stage::new(Stage::builder());
    stage
        .world
        .set_variable("WALFERRY_TEST_KILL_AT", "archive.put");
    let worker = stage.worker(&[]).await_alive();
    stage.hand_over(1);
    stage.world.await_archived();
    assert!(worker.running());
}

/// Starts a worker that dies at `point`, and waits for its death.
pub(crate) fn kill_worker(stage: &mut Stage, point: &str) {
    let victim = start_victim(stage, "worker", point);
    await_death(&victim, point);
}

/// Starts a program with the order to die at `point`.
pub(crate) fn start_victim(stage: &mut Stage, role: &str, point: &str) -> Program {
    stage.world.set_variable("WALFERRY_TEST_KILL_AT", point);
    let victim = stage.world.start(role, &[]);
    stage.knows(&victim);
    stage.world.set_variable("WALFERRY_TEST_KILL_AT", "");
    victim
}

/// Waits until a program has died by SIGKILL; a point that is not reached fails here.
pub(crate) fn await_death(victim: &Program, point: &str) {
    let status = victim.process().wait_within(Duration::from_secs(40));
    assert_eq!(
        status.signal(),
        Some(9),
        "{} should have died at {point}:\n{}",
        victim.name(),
        victim.process().report(40)
    );
    assert!(
        victim
            .log()
            .contains(&format!("kill point {point} reached")),
        "{} died elsewhere:\n{}",
        victim.name(),
        victim.process().report(40)
    );
}

/// Runs a worker until everything handed over is archived, and ends it.
pub(crate) fn archive_all(stage: &mut Stage) {
    let worker = stage.worker(&[]);
    stage.world.await_archived();
    end(&worker);
}

/// SIGTERM, and its end.
pub(crate) fn end(worker: &Program) {
    worker.clone().await_alive().terminate();
    worker.wait();
}
