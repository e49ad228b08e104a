//! Several workers, and workers that die, freeze, or are asked to end.

use std::time::{Duration, Instant};

use walferry_tests::process::shell_code;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Fault, World, eventually, eventually_within, wait};

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
    let second = world.worker();

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
    assert_eq!(second.metric("walferry_claim_crashes_total"), Some(1.0));
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
fn claims_that_a_handler_could_not_give_back_are_given_back_at_the_end() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("catalog.statement_timeout", "3s")
        .setting("archive.claim_lease", "60s")
        .setting("archive.claim_renew", "20s")
        .build();
    let gate = world.cloud("b2").proxy().hold("PUT", ".gz");
    let worker = world.worker_with(&[("worker.shutdown_grace", "1s")]);
    hand_over(&mut world, 1..2, Fill::Light);
    gate.await_waiting(1);

    // Somebody's lock on the row outlasts the handler's own attempt.
    let runtime = world.runtime().handle().clone();
    let url = world.catalog().url("walferry");
    let locked = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client
            .batch_execute("BEGIN; SELECT 1 FROM wal_files FOR UPDATE")
            .await?;
        Ok::<_, tokio_postgres::Error>(client)
    });
    let locked = locked.expect("lock the row");
    worker.terminate();
    eventually("the worker itself gives back what it claimed", || {
        let waiting = world.rows(
            "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                AND query LIKE '%WHERE f.claimed_by = $1%'",
        );
        wait::is(waiting.len() == 1, waiting)
    });
    runtime
        .block_on(locked.batch_execute("ROLLBACK"))
        .expect("unlock the row");
    assert_eq!(shell_code(worker.wait()), 0);
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
fn a_claim_is_kept_through_an_upload_that_is_slower_than_its_lease() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.claim_lease", "3s")
        .setting("archive.claim_renew", "1s")
        .build();
    let gate = world.cloud("b2").proxy().hold("PUT", ".gz");
    world.worker();
    world.worker();
    hand_over(&mut world, 1..2, Fill::Light);
    gate.await_waiting(1);
    let key = MAKER.name(1);
    // Two leases and more, with another worker that would take over.
    wait::throughout(Duration::from_secs(7), "the claim is kept", || {
        let attempt = world.number("SELECT attempt FROM wal_files");
        let puts = world.cloud("b2").proxy().count("PUT", &key);
        wait::is(attempt == 1 && puts == 1, (attempt, puts))
    });
    gate.open();
    world.await_archived();
    assert_eq!(world.number("SELECT crashes FROM wal_files"), 0);
    world.assert_written_once();
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
