//! Mixed faults at random, for as long as one likes: `./test soak MINUTES [SEED]`.
//!
//! The seed is printed; the same seed gives the same faults in the same order.

use std::time::{Duration, Instant};

use fastrand::Rng;
use walferry_tests::environment;
use walferry_tests::world::Program;
use walferry_tests::{Fault as Strike, Rule};

use crate::invariants::{self, Allowed};
use crate::stage::Stage;

/// How soon a backlog of a whole soak has to be VERIFIED.
const BOUND: Duration = Duration::from_secs(300);

/// Faults until the time is over, under load all the while; after every round the invariants.
pub(crate) fn run() {
    let (minutes, seed) = environment::soak();
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("soak: {minutes} min with seed {seed}");
    let rng = &mut Rng::with_seed(seed);
    let ends = Instant::now() + Duration::from_secs(60 * minutes);
    let mut stage = Stage::new(Stage::builder());
    stage.start(2);
    stage.start_load();
    let mut rounds = 0;
    // A segment that crashed three workers waits five minutes for its next attempt.
    while Instant::now() < ends {
        rounds += 1;
        let faults: Vec<What> = (0..rng.usize(1..4)).map(|_| What::choose(rng)).collect();
        eprintln!("soak: round {rounds}: {faults:?}");
        let mut frozen = Vec::new();
        for fault in &faults {
            frozen.extend(fault.begin(&mut stage));
        }
        std::thread::sleep(Duration::from_millis(rng.u64(200..6_000)));
        for fault in &faults {
            fault.end(&mut stage);
        }
        for program in frozen {
            program.thaw();
        }
        // An answer that was lost after a PUT makes the next attempt look, not write; parts are
        // sent again whole.
        invariants::hold(&stage.world, ALLOWED);
        std::thread::sleep(Duration::from_millis(rng.u64(0..3_000)));
    }
    stage.end_load();
    let given = stage.world.originals().len();
    stage.world.await_archived_within(BOUND);
    stage.await_nothing_claimed();
    invariants::hold(&stage.world, ALLOWED);
    eprintln!("soak: {rounds} rounds, {given} segments, all VERIFIED; seed {seed}");
}

const ALLOWED: Allowed = Allowed {
    copies: 0,
    rewritten: false,
    foreign: false,
};

/// One fault of the mix.
#[derive(Clone, Copy, Debug)]
enum What {
    Cloud(&'static str, Strike),
    Redis,
    Catalog,
    /// kill -9 of a worker; another one is started.
    Killed,
    Frozen,
    /// SIGTERM of a worker; another one is started.
    Ended,
}

impl What {
    fn choose(rng: &mut Rng) -> What {
        let cloud = if rng.bool() { "r2" } else { "b2" };
        let strikes = [
            Strike::Refuse,
            Strike::Blackhole,
            Strike::Status(500),
            Strike::Status(503),
            Strike::Status(429),
            Strike::Status(403),
            Strike::ResetMidBody,
            Strike::DropResponse,
            Strike::Latency(Duration::from_millis(500)),
        ];
        match rng.u8(..10) {
            0 => What::Redis,
            1 => What::Catalog,
            2 | 3 => What::Killed,
            4 => What::Frozen,
            5 => What::Ended,
            _ => What::Cloud(cloud, strikes[rng.usize(..strikes.len())]),
        }
    }

    /// Begins it; a program that was frozen is given back to be thawed.
    fn begin(self, stage: &mut Stage) -> Option<Program> {
        match self {
            What::Cloud(cloud, strike) => {
                stage.world.cloud(cloud).proxy().fault(Rule::new(strike));
            }
            What::Redis if stage.world.redis().is_running() => stage.world.redis_mut().kill(),
            What::Catalog if !stage.catalog_is_down => {
                stage.world.catalog_mut().crash();
                stage.catalog_is_down = true;
            }
            What::Redis | What::Catalog => {}
            What::Killed => {
                stage.running_worker().kill();
                stage.worker(&[]);
            }
            What::Frozen => {
                let worker = stage.running_worker().clone();
                worker.freeze();
                return Some(worker);
            }
            What::Ended => {
                let worker = stage.running_worker().clone();
                stage.worker(&[]);
                // It may have been frozen by another fault of this round: it ends when thawed.
                worker.terminate();
            }
        }
        None
    }

    fn end(self, stage: &mut Stage) {
        match self {
            What::Cloud(cloud, _) => stage.world.cloud(cloud).proxy().pass(),
            What::Redis if !stage.world.redis().is_running() => {
                stage.world.redis_mut().start_again();
            }
            What::Catalog if stage.catalog_is_down => {
                stage.world.catalog_mut().start_again();
                stage.catalog_is_down = false;
            }
            What::Redis | What::Catalog | What::Killed | What::Frozen | What::Ended => {}
        }
    }
}
