//! What the health port says of a worker that ends.

use std::time::Duration;

use walferry_tests::process::shell_code;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

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
