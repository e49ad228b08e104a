//! What can happen to a worker or a scheduler.

use walferry_tests::process::shell_code;
use walferry_tests::proxy::Gate;
use walferry_tests::wal::Fill;
use walferry_tests::world::Program;
use walferry_tests::{User, eventually, wait};

use crate::fault::Fault;
use crate::stage::Stage;

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        killed(),
        terminated_with_a_stalled_upload(),
        frozen(),
        panic_in_a_handler(),
        panic_on_a_segment(),
        poison(),
        out_of_memory(),
        same_name(),
        two_schedulers(),
        rolling_restart(),
        clock("processes.clock-ahead", 3_600),
        clock("processes.clock-behind", -3_600),
    ]
}

/// A worker, dead in the middle of an upload.
fn killed() -> Fault {
    Fault::new(
        "processes.killed",
        "its segments are another worker's after a lease",
    )
    .begin(|stage| {
        let (gate, worker) = stalled(stage);
        worker.kill();
        stage.gate = Some(gate);
    })
    .told_by_check("no-worker", "critical", "queue backups")
    .told_by_status("workers 0")
    .end(|stage| {
        open(stage);
        stage.worker(&[]);
    })
}

fn terminated_with_a_stalled_upload() -> Fault {
    Fault::new(
        "processes.terminated-with-a-stalled-upload",
        "exits 0 within its grace, its claims given back at no cost",
    )
    .begin(|stage| {
        let gate = stage.world.cloud("b2").proxy().hold("PUT", ".gz");
        let worker = stage.worker(&[("worker.shutdown_grace", "1s")]);
        stage.running_worker().terminate();
        stage.running_worker().wait();
        stage.hand_over(1);
        gate.await_waiting(1);
        worker.terminate();
        assert_eq!(shell_code(worker.wait()), 0);
        let cost = "SELECT count(*) FROM wal_files WHERE crashes > 0 OR failures > 0";
        assert_eq!(stage.world.number(cost), 0, "given back at no cost");
        stage.gate = Some(gate);
    })
    .told_by_check("no-worker", "critical", "queue backups")
    .end(|stage| {
        open(stage);
        stage.worker(&[]);
    })
}

/// Stopped past its leases by the kernel, and continued: the zombie changes nothing.
fn frozen() -> Fault {
    Fault::new(
        "processes.frozen",
        "another worker takes over; the zombie changes nothing",
    )
    .begin(|stage| {
        let (gate, worker) = stalled(stage);
        worker.freeze();
        stage.gate = Some(gate);
        stage.worker(&[]);
    })
    .told("the metric of claims taken over is above 0", |stage| {
        let worker = stage.last_worker().clone().await_alive();
        let (_, metrics) = worker.http("/metrics")?;
        let lines = metrics.lines();
        let crashes = lines.filter(|line| line.starts_with("walferry_claim_crashes"));
        let crashes = crashes.collect::<Vec<_>>().join(" ");
        let none = crashes.is_empty() || crashes.ends_with(" 0");
        wait::is(!none, crashes)
    })
    .end(|stage| {
        open(stage);
        stage.running_worker().thaw();
    })
    .after(|stage| {
        eventually("the zombie has noticed", || {
            let log = stage.running_worker().log();
            wait::is(log.contains("lease"), log)
        });
    })
}

/// Every job of one worker panics.
fn panic_in_a_handler() -> Fault {
    Fault::new(
        "processes.panic-in-a-handler",
        "one failed attempt; the worker lives on",
    )
    .begin(|stage| replace_by_panicking(stage, "register.commit.before"))
    .told_by_check("jobs-failing", "warning", "panic")
    .meanwhile(|stage| assert!(stage.running_worker().running()))
    .end(replace_by_healthy)
}

/// Every segment that one worker packs panics.
fn panic_on_a_segment() -> Fault {
    Fault::new(
        "processes.panic-on-a-segment",
        "tried again, alone after three times",
    )
    .begin(|stage| replace_by_panicking(stage, "archive.packed.before"))
    .told_by_check("troubled", "critical", "3 crashes")
    .meanwhile(|stage| assert!(stage.running_worker().running()))
    .end(|stage| {
        replace_by_healthy(stage);
        five_minutes_pass(stage);
    })
}

/// A segment that kills its worker, three times in a row; others are not held up.
fn poison() -> Fault {
    Fault::new(
        "processes.poisonous-segment",
        "the others go on; tried last, alone and late",
    )
    .begin(|stage| {
        stage.running_worker().terminate();
        stage.running_worker().wait();
        stage.hand_over(1);
        // At rest the third time; under load others' segments are in its way.
        for _ in 0..15 {
            crate::sweep::kill_worker(stage, "archive.packed.before");
            let crashes = "SELECT max(crashes + (lease_until IS NOT NULL)::int) FROM wal_files";
            if stage.world.number(crashes) >= 3 {
                break;
            }
        }
        stage.worker(&[]);
    })
    .told_by_check("troubled", "critical", "3 crashes")
    .meanwhile(|stage| {
        let all = stage.world.originals().len();
        eventually("all others are archived", || {
            let backups = stage.world.backups();
            let names = stage.world.originals().names();
            let done = |name: &&String| {
                backups
                    .get(*name)
                    .is_some_and(|backup| backup.status == "VERIFIED")
            };
            let verified = names.iter().filter(done).count();
            wait::is(verified + 1 >= all, format!("{verified} of {all}"))
        });
    })
    .end(five_minutes_pass)
}

/// No memory is to be had any more: the allocator ends the process.
fn out_of_memory() -> Fault {
    Fault::new(
        "processes.out-of-memory",
        "the worker dies, the next one goes on",
    )
    // Buffers of a size that the allocator has not in hand.
    .before(|stage| stage.make(32 << 20, Fill::Random))
    .begin(|stage| {
        let worker = stage.running_worker().clone().await_alive();
        let id = worker.process().id();
        let mut limit = User::Walferry.command("prlimit");
        let limited = limit
            .arg("--as=1048576")
            .arg(format!("--pid={id}"))
            .status();
        assert!(limited.is_ok_and(|status| status.success()), "prlimit");
        stage.hand_over(2);
        let status = worker.process().wait();
        assert_ne!(shell_code(status), 0, "{}", worker.log());
    })
    .told_by_check("no-worker", "critical", "queue backups")
    .end(|stage| {
        stage.worker(&[]);
    })
}

/// Two workers that were given the same name by mistake.
fn same_name() -> Fault {
    let twin = [("worker.id", "twin")];
    Fault::new(
        "processes.two-workers-of-one-name",
        "nothing is processed twice",
    )
    .workers(0)
    .before(move |stage| {
        stage.worker(&twin);
        stage.worker(&twin);
    })
    .begin(|stage| {
        stage.hand_over(20);
    })
    .after(|stage| stage.world.assert_written_once())
}

fn two_schedulers() -> Fault {
    Fault::new(
        "processes.two-schedulers",
        "each slot is enqueued once; either may die",
    )
    .begin(|stage| {
        let other = stage.world.start("scheduler", &[]);
        stage.knows(&other);
        other.clone().await_alive();
        stage.programs()[0].kill();
    })
    .meanwhile(|stage| {
        let rows = stage
            .world
            .cli(&["--json", "queue", "ls", "--state", "done"])
            .json();
        let ticks = rows.as_array().map_or(0, |jobs| {
            let mine = jobs.iter().filter(|job| {
                let key = job["unique_key"].as_str().unwrap_or_default();
                key.starts_with("continuous-wal-archiving:")
            });
            mine.count()
        });
        assert!(
            ticks <= 1,
            "the slot of these 300 s was enqueued {ticks} times"
        );
    })
}

/// Each of three workers is replaced by a new one while segments arrive.
fn rolling_restart() -> Fault {
    Fault::new(
        "processes.rolling-restart",
        "each old worker drains and exits 0; no pause",
    )
    .workers(3)
    .begin(|stage| {
        for number in 1..4 {
            let old = stage.programs()[number].clone();
            stage.hand_over(4);
            let new = stage.worker(&[]);
            new.await_alive();
            old.terminate();
            assert_eq!(shell_code(old.wait()), 0, "{}", old.log());
        }
    })
    .after(|stage| {
        stage.world.assert_written_once();
        let cost = "SELECT count(*) FROM wal_files WHERE crashes > 0 OR failures > 0";
        assert_eq!(stage.world.number(cost), 0, "a restart costs nothing");
    })
}

/// A worker's clock is stepped by an hour and back. Clouds refuse a signature of another hour.
fn clock(name: &'static str, seconds: i64) -> Fault {
    Fault::new(
        name,
        "claims and leases follow the servers' clocks; nothing is lost",
    )
    .workers(0)
    .before(|stage| {
        stage.world.with_own_clock();
        stage.worker(&[]);
        stage.hand_over(1);
        stage.world.await_archived();
    })
    .begin(move |stage| stage.world.step_clock(seconds))
    .meanwhile(|stage| {
        let worker = stage.running_worker();
        assert!(worker.running());
    })
    .end(|stage| stage.world.step_clock(0))
}

/// The first worker's upload to r2 stands still.
fn stalled(stage: &mut Stage) -> (Gate, Program) {
    let gate = stage.world.cloud("r2").proxy().hold("PUT", ".gz");
    stage.hand_over(2);
    gate.await_waiting(1);
    (gate, stage.running_worker().clone())
}

fn open(stage: &mut Stage) {
    if let Some(gate) = stage.gate.take() {
        gate.open();
    }
}

fn replace_by_panicking(stage: &mut Stage, point: &str) {
    let old = stage.running_worker().clone();
    stage.world.set_variable("WALFERRY_TEST_PANIC_AT", point);
    let new = stage.worker(&[]);
    stage.world.set_variable("WALFERRY_TEST_PANIC_AT", "");
    old.terminate();
    old.wait();
    new.await_alive();
}

fn replace_by_healthy(stage: &mut Stage) {
    let old = stage.running_worker().clone();
    stage.worker(&[]);
    old.terminate();
    old.wait();
}

/// The back-off of a file that crashed three workers, without waiting for it.
fn five_minutes_pass(stage: &mut Stage) {
    stage.world.rows(
        "UPDATE wal_files SET lease_until = lease_until - interval '5 min' \
         WHERE lease_until IS NOT NULL",
    );
}
