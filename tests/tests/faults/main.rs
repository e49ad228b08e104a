//! The worst days: kill -9 at every point between two durable effects, and every fault of
//! files, disks, Redis, catalog, clouds and processes.
//!
//! A *cell* is one of them, at rest or under load, and a trial of this binary: `kill.push.rename.after`,
//! `clouds.r2.refused`, `clouds.r2.refused+load`. Each has a world of its own, checks the
//! invariants from outside (`invariants.rs`) while the fault lasts and after it, and leaves what
//! came of it in `target/test-results/faults/`, from which `./test faults --write` makes
//! `docs/faults.md`.
//!
//! The list of kill points is collected from the source: a point that no scenario reaches is a
//! trial that fails.

mod catalog;
mod cell;
mod clouds;
mod disk;
mod fault;
mod files;
mod invariants;
mod moving;
mod points;
mod processes;
mod redis;
mod soak;
mod stage;
mod sweep;

use libtest_mimic::{Arguments, Trial};

use crate::fault::{Fault, Mode};

/// Every fault that is not a kill point.
fn faults() -> Vec<Fault> {
    [
        files::faults(),
        disk::faults(),
        clouds::faults(),
        redis::faults(),
        catalog::faults(),
        processes::faults(),
    ]
    .concat()
}

fn main() {
    let mut arguments = Arguments::from_args();
    // A world has threads of its own; nextest runs each trial as a process in any case.
    arguments.test_threads.get_or_insert(1);
    let mut trials = vec![
        trial("points.are_named_and_have_a_scenario", points::check),
        trial(
            "points.kill_only_where_they_are_told_to",
            sweep::check_other_point,
        ),
    ];
    for point in points::collected() {
        let name = format!("kill.{point}");
        trials.push(trial(&name.clone(), move || sweep::run(&name, &point)));
    }
    for fault in faults() {
        let under_load = fault.clone();
        let name = fault.name;
        trials.push(trial(name, move || fault::run(&fault, Mode::AtRest)));
        // CI runs them at rest; `./test faults --load` runs these too.
        let load = trial(&format!("{name}+load"), move || {
            fault::run(&under_load, Mode::UnderLoad);
        });
        trials.push(load.with_ignored_flag(true));
    }
    trials.push(trial("soak", soak::run).with_ignored_flag(true));
    libtest_mimic::run(&arguments, trials).exit();
}

/// A trial on a thread of its name, so that a failed one's logs are kept under it.
fn trial(name: &str, run: impl FnOnce() + Send + 'static) -> Trial {
    let thread = name.to_owned();
    Trial::test(name, move || {
        let running = std::thread::Builder::new().name(thread).spawn(run);
        // The panic's own message is printed already, by the hook.
        running?.join().map_err(|_| "see above".into())
    })
}
