//! Redis or the catalog goes away and comes back: time is lost, nothing else.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_005,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

fn hand_over(world: &mut World, numbers: std::ops::Range<u64>) {
    for number in numbers {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
}

#[test]
fn losing_all_of_redis_in_the_middle_loses_time_and_no_segment() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("scheduler.archive_interval", "5s")
        .build();
    world.scheduler();
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    let worker = world.worker();
    hand_over(&mut world, 1..21);
    gate.await_waiting(1);
    world.redis_mut().lose_everything();
    gate.open();
    hand_over(&mut world, 21..41);
    world.await_archived();
    assert!(worker.running(), "the worker needed no restart");
}

#[test]
fn everything_starts_with_redis_down_and_archives_when_it_is_there() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("scheduler.archive_interval", "5s")
        .build();
    world.redis_mut().kill();
    let scheduler = world.start("scheduler", &[]);
    let worker = world.start("worker", &[]);
    hand_over(&mut world, 1..6);
    eventually("both serve HTTP", || {
        worker.http("/healthz").and(scheduler.http("/healthz"))
    });
    world.redis_mut().start_again();
    world.await_archived();
    assert!(worker.running() && scheduler.running());
}

#[test]
fn a_redis_that_stands_still_is_survived_without_a_restart() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("scheduler.archive_interval", "5s")
        .build();
    world.scheduler();
    let worker = world.worker();
    hand_over(&mut world, 1..2);
    world.await_archived();
    world.redis_mut().process().freeze();
    hand_over(&mut world, 2..6);
    // Longer than any response timeout of a client of ours.
    wait::throughout(std::time::Duration::from_secs(8), "the worker runs", || {
        wait::is(worker.running(), worker.log())
    });
    world.redis_mut().process().thaw();
    world.await_archived();
}

#[test]
fn a_catalog_that_crashes_in_the_middle_is_survived_without_a_restart() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("scheduler.archive_interval", "5s")
        .build();
    world.scheduler();
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    let worker = world.worker();
    hand_over(&mut world, 1..11);
    gate.await_waiting(1);
    world.catalog_mut().crash();
    gate.open();
    hand_over(&mut world, 11..16);
    world.catalog_mut().start_again();
    world.await_archived();
    assert!(worker.running());
}

#[test]
fn nothing_is_deleted_while_the_catalog_is_down() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("scheduler.archive_interval", "5s")
        .build();
    world.scheduler();
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    world.worker();
    hand_over(&mut world, 1..2);
    gate.await_waiting(1);
    world.catalog_mut().crash();
    gate.open();
    let key = format!("wal/{}.gz", MAKER.name(1));
    eventually("the object is in r2", || {
        wait::is(world.cloud("r2").bucket().head(&key).is_some(), "not yet")
    });
    wait::throughout(std::time::Duration::from_secs(3), "the file stays", || {
        wait::is(
            world.archived_files() == [MAKER.name(1)],
            world.archived_files(),
        )
    });
    world.catalog_mut().start_again();
    world.await_archived();
}
