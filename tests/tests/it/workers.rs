//! Several workers, and workers that die, freeze, or are asked to end.

use std::time::{Duration, Instant};

use walferry_tests::process::shell_code;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Fault, World, eventually_within, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_002,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

fn hand_over(world: &mut World, numbers: std::ops::Range<u64>, fill: Fill) {
    for number in numbers {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, fill));
    }
}

#[test]
fn four_workers_archive_300_segments_and_none_twice() {
    let mut world = World::new();
    hand_over(&mut world, 1..301, Fill::Light);
    let workers: Vec<_> = (0..4).map(|_| world.start("worker", &[])).collect();
    for worker in workers {
        worker.await_alive();
    }
    world.scheduler();
    world.await_archived_within(Duration::from_secs(240));
    assert_eq!(world.originals().len(), 300);
    world.assert_written_once();
}

#[test]
fn a_killed_workers_segment_is_being_uploaded_by_another_within_15_seconds() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    let first = world.worker();
    hand_over(&mut world, 1..2, Fill::Light);
    gate.await_waiting(1);
    world.worker();

    first.kill();
    let killed = Instant::now();
    let key = MAKER.name(1);
    eventually_within(Duration::from_secs(15), "another worker uploads it", || {
        let count = world.cloud("r2").proxy().count("PUT", &key);
        wait::is(count >= 2, count)
    });
    assert!(killed.elapsed() < Duration::from_secs(15));
    let crashes = world.number("SELECT crashes FROM wal_files");
    assert_eq!(crashes, 1, "the claim that ended in a crash is counted");
    gate.open();
    world.await_archived();
}

#[test]
fn a_worker_frozen_past_its_lease_changes_nothing_when_it_comes_back() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    let frozen = world.worker();
    hand_over(&mut world, 1..2, Fill::Light);
    gate.await_waiting(1);
    frozen.freeze();

    world.worker();
    gate.open();
    world.await_archived();
    let rows = world.rows("SELECT attempt, status, verified_at FROM wal_files");
    world.cloud("r2").proxy().forget();
    world.cloud("b2").proxy().forget();

    frozen.thaw();
    frozen.clone().await_alive();
    hand_over(&mut world, 2..3, Fill::Light);
    world.await_archived();
    for cloud in world.clouds() {
        let writes = cloud.proxy().writes();
        assert_eq!(
            writes.get(&format!("wal/{}.gz", MAKER.name(1))),
            None,
            "{}",
            cloud.name()
        );
    }
    let name = MAKER.name(1);
    assert_eq!(
        world.rows(&format!(
            "SELECT attempt, status, verified_at FROM wal_files WHERE name = '{name}'"
        )),
        rows
    );
}

#[test]
fn a_worker_asked_to_end_finishes_a_slow_upload_and_exits_0() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world.cloud("b2").proxy().hold("PUT", ".gz");
    let worker = world.worker();
    hand_over(&mut world, 1..2, Fill::Light);
    gate.await_waiting(1);

    worker.terminate();
    // It has heard when it says so; only then does the upload go on.
    worker.await_log("shutting down");
    gate.open();
    assert_eq!(shell_code(worker.wait()), 0);
    world.await_verified_within(Duration::from_secs(1));
    world.compare_clouds();
    assert_eq!(world.leftover_claims(), None);
}

#[test]
fn a_worker_that_cannot_finish_in_its_grace_gives_its_claims_back_and_exits_0() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world.cloud("b2").proxy().hold("PUT", ".gz");
    let worker = world.worker_with(&[("worker.shutdown_grace", "2s")]);
    hand_over(&mut world, 1..3, Fill::Light);
    gate.await_waiting(1);

    worker.terminate();
    assert_eq!(
        shell_code(worker.process().wait_within(Duration::from_secs(12))),
        0
    );
    assert_eq!(world.leftover_claims(), None);
    assert_eq!(
        world.number("SELECT count(*) FROM wal_files WHERE crashes > 0 OR failures > 0"),
        0
    );
    gate.open();
    world.worker();
    world.await_archived();
}

#[test]
fn four_workers_drain_a_backlog_at_least_three_and_a_half_times_as_fast_as_one() {
    let mut world = World::builder().quick_clouds().build();
    let settings = [("worker.segments_in_flight", "1"), ("worker.slots", "1")];
    let latency = Fault::Latency(Duration::from_millis(200));
    for cloud in world.clouds() {
        cloud.proxy().fault(latency);
    }
    let first = world.worker_with(&settings);
    // Warm: the owner mark is there, the first scan is done.
    hand_over(&mut world, 1..2, Fill::Empty);
    world.await_archived();

    let one = drain(&mut world, 100..120);
    for _ in 0..3 {
        world.worker_with(&settings);
    }
    assert!(first.running());
    let four = drain(&mut world, 200..280) / 4;
    let ratio = one.as_secs_f64() / four.as_secs_f64();
    assert!(
        ratio >= 3.5,
        "four workers are {ratio:.2} times as fast: {one:?} against {four:?} for 20 segments"
    );
}

/// Time from the first segment's handing over to the last one's end.
fn drain(world: &mut World, numbers: std::ops::Range<u64>) -> Duration {
    let start = Instant::now();
    hand_over(world, numbers, Fill::Empty);
    world.await_verified_within(Duration::from_secs(200));
    start.elapsed()
}
