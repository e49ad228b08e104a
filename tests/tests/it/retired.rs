//! Repositories that go: from the configuration, and with their bucket.

use walferry_tests::proxy::Fault;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_040,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

fn world_with_segments() -> World {
    let mut world = World::builder().quick_clouds().build();
    for number in 1..4 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    world
}

fn await_all_in_r2(world: &World) {
    eventually("r2 has them all", || {
        let rows =
            world.rows("SELECT file_id FROM copies WHERE repository = 'r2' AND state = 'verified'");
        wait::is(rows.len() == 3, rows)
    });
}

#[test]
fn a_repository_that_left_the_configuration_is_waited_for_until_it_is_retired() {
    let mut world = world_with_segments();
    world.cloud("b2").proxy().fault(Fault::Refuse);
    let worker = world.worker();
    await_all_in_r2(&world);
    worker.terminate();
    worker.wait();
    let refused = world.cli(&["repository", "retire", "b2"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("HINT:"), "{refused:?}");

    world.set("repositories", "r2");
    let pending = "SELECT count(*) FROM wal_files WHERE status = 'PENDING'";
    assert_eq!(world.number(pending), 3);
    let retired = world.cli(&["--json", "repository", "retire", "b2"]).json();
    assert_eq!(retired["files"], 3, "{retired}");
    assert_eq!(world.number(pending), 0);
    world.worker();
    eventually("the local files go", || {
        let left = world.archived_files();
        wait::is(left.is_empty(), left)
    });
    let unknown = world.cli(&["repository", "retire", "b3"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
}

#[test]
fn a_bucket_that_is_really_gone_delays_only_its_own_copies_until_it_is_there() {
    let world = world_with_segments();
    let bucket = world.cloud("b2").bucket();
    bucket.remove();
    world.worker();
    await_all_in_r2(&world);
    eventually("b2's copies say why they are missing", || {
        let rows = world.rows("SELECT cause FROM copies WHERE repository = 'b2'");
        let gone = rows
            .iter()
            .any(|row| row[0].as_deref() == Some("no-bucket"));
        wait::is(gone, rows)
    });
    bucket.create().expect("the bucket is made again");
    world.await_archived();
}
