//! What the health port says of a worker that ends.

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
