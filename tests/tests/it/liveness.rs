//! What the health port says of a worker that ends, and of what is away.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use std::time::Duration;

use walferry_tests::process::shell_code;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::world::Program;
use walferry_tests::{Fault, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_029,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

#[test]
fn a_worker_that_drains_is_alive_and_not_ready() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world.cloud("b2").proxy().hold("PUT", ".gz");
    let worker = world.worker();
    worker.await_ready();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    gate.await_waiting(1);

    worker.terminate();
    let body = eventually("it says that it is not ready", || {
        let (status, body) = worker.http("/readyz")?;
        if status == 503 { Ok(body) } else { Err(body) }
    });
    assert!(body.contains("draining"), "{body}");
    let (status, body) = worker.http("/healthz").expect("an answer");
    assert_eq!(status, 200, "a drain is no reason for a restart: {body}");
    gate.open();
    assert_eq!(shell_code(worker.wait()), 0);
    world.compare_clouds();
}

#[test]
fn with_redis_away_a_worker_is_alive_and_not_ready_and_then_ready_again() {
    let mut world = World::builder().quick_clouds().build();
    let worker = world.worker();
    worker.await_ready();
    world.redis_mut().kill();
    eventually("it says that it is not ready", || {
        let (status, body) = worker.http("/readyz")?;
        wait::is(status == 503 && body.contains("backups"), body)
    });
    let (status, body) = worker.http("/healthz").expect("an answer");
    assert_eq!(status, 200, "{body}");
    world.redis_mut().start_again();
    worker.await_ready();
}

#[test]
fn a_worker_that_drains_one_of_two_queues_is_alive_until_it_is_through() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world.cloud("b2").proxy().hold("PUT", ".gz");
    let worker = world.worker_with(&[("worker.queues", "backups,other")]);
    worker.await_ready();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    gate.await_waiting(1);

    worker.terminate();
    eventually("the idle queue's consumer is through", || {
        let workers = world
            .redis()
            .strings(&["ZRANGE", "{other}:workers", "0", "-1"]);
        wait::is(workers.is_empty(), workers)
    });
    let healthy = || match worker.http("/healthz") {
        Ok((200, _)) => Ok(()),
        other => Err(other),
    };
    wait::throughout(Duration::from_secs(1), "it is alive", healthy);
    gate.open();
    assert_eq!(shell_code(worker.wait()), 0);
    world.compare_clouds();
}

#[test]
fn a_job_is_one_span_in_the_log_and_its_segments_lie_in_it() {
    let mut world = World::builder().quick_clouds().build();
    let worker = world.worker();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.await_archived();
    worker.await_log(" archived ");
    let log = worker.log();
    let line = log
        .lines()
        .find(|line| line.contains(&MAKER.name(1)) && line.contains(" archived "))
        .expect("a line for the segment");
    assert_eq!(line.matches("job{").count(), 1, "{line}");
    assert!(line.contains("queue.name=backups"), "{line}");
}

/// Waits until `/readyz` is 503 for this reason, and sees that `/healthz` is 200.
#[track_caller]
fn await_failing(program: &Program, check: &str) {
    eventually(&format!("it says that it needs {check}"), || {
        let (status, body) = program.http("/readyz")?;
        let report: serde_json::Value =
            serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        let named = report["failing"][check].is_string();
        wait::is(status == 503 && named, body)
    });
    let (status, body) = program.http("/healthz").expect("an answer");
    assert_eq!(status, 200, "no reason for a restart: {body}");
}

#[test]
fn each_thing_that_a_worker_needs_is_named_while_it_is_away() {
    let mut world = World::builder().quick_clouds().build();
    let worker = world.worker();
    worker.await_ready();
    world.catalog_mut().crash();
    await_failing(&worker, "catalog");
    world.catalog_mut().start_again();
    worker.await_ready();

    let mode = |mode| std::fs::set_permissions(world.archive(), Permissions::from_mode(mode));
    mode(0o000).expect("close the directory");
    await_failing(&worker, "directory:main/main");
    mode(0o2770).expect("open the directory");
    worker.await_ready();

    world.cloud("b2").proxy().fault(Fault::Refuse);
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    await_failing(&worker, "repository:b2");
    world.cloud("b2").proxy().pass();
    world.await_archived();
    worker.await_ready();
}

#[test]
fn a_scheduler_names_the_redis_that_is_away_and_is_alive() {
    let mut world = World::builder().no_clouds().no_catalog().build();
    let scheduler = world.scheduler();
    scheduler.await_ready();
    world.redis_mut().kill();
    await_failing(&scheduler, "redis:backups");
    world.redis_mut().start_again();
    scheduler.await_ready();
}
