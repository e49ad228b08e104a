//! A cloud that is down is spared, and costs the other nothing.

use std::time::Duration;

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Fault, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_043,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

fn hand_over(world: &mut World, numbers: std::ops::Range<u64>) {
    for number in numbers {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
}

#[track_caller]
fn await_in_r2(world: &World, files: i64) {
    eventually("r2 holds everything", || {
        let rows = world.number("SELECT count(*) FROM backups WHERE r2_path IS NOT NULL");
        wait::is(rows == files, rows)
    });
}

#[test]
fn a_cloud_that_is_down_is_spared_and_said_to_answer_only_when_it_does() {
    let mut world = World::builder().quick_clouds().build();
    let worker = world.worker();
    // With the owner's mark in place, the copies alone are left to be asked for.
    hand_over(&mut world, 1..2);
    world.await_archived();
    world.cloud("b2").proxy().fault(Fault::Status(503));
    hand_over(&mut world, 2..32);
    await_in_r2(&world, 31);
    for cloud in world.clouds() {
        cloud.proxy().forget();
    }
    // Thirty copies would make a request each within these seconds, again and again.
    wait::throughout(Duration::from_secs(10), "b2 is spared", || {
        let asked = world.cloud("b2").proxy().records().len();
        // What cannot be sent is not downloaded from the other cloud.
        let read = world.cloud("r2").proxy().count("GET", ".gz");
        let quiet = !worker.log().contains("answers again");
        wait::is(asked <= 20 && read == 0 && quiet, (asked, read, quiet))
    });
    world.cloud("b2").proxy().pass();
    worker.await_log("answers again");
    world.await_archived();
    let writes = world.cloud("b2").proxy().writes();
    assert!(writes.values().all(|count| *count == 1), "{writes:?}");
}

#[test]
fn a_worker_that_has_asked_for_nothing_hides_no_outage() {
    let mut world = World::builder().quick_clouds().build();
    world.cloud("b2").proxy().fault(Fault::Refuse);
    world.worker();
    hand_over(&mut world, 1..2);
    let row = "SELECT breaker_state, breaker_since FROM repositories WHERE name = 'b2'";
    let down = eventually("b2 is known to be down", || {
        let rows = world.rows(row);
        let open = rows.iter().any(|row| row[0].as_deref() == Some("open"));
        if open { Ok(rows) } else { Err(rows) }
    });
    // It serves another queue, so it is idle, and reports all the same.
    let idle = world.worker_with(&[("worker.queues", "other")]);
    idle.await_ready();
    wait::throughout(Duration::from_secs(5), "b2 stays down since then", || {
        let rows = world.rows(row);
        wait::is(rows == down, rows)
    });
    let check = world.cli(&["check"]);
    let told = check.stdout.contains("archive.delete_after_one_copy_above");
    assert!(told, "{check:?}");

    world.cloud("b2").proxy().pass();
    world.await_archived();
    eventually("b2 is known to be well", || {
        let rows = world.rows(row);
        let closed = rows.iter().any(|row| row[0].as_deref() == Some("closed"));
        wait::is(closed, rows)
    });
}

#[test]
fn while_a_cloud_stands_still_the_other_has_as_many_uploads_at_once_as_ever() {
    const AT_ONCE: usize = 4;
    let mut world = World::builder()
        .quick_clouds()
        .setting("worker.segments_in_flight", &AT_ONCE.to_string())
        .setting("repositories.r2.idle_timeout", "5m")
        .setting("repositories.b2.idle_timeout", "5m")
        .build();
    let still = world.cloud("b2").proxy().hold("PUT", ".gz");
    world.worker();
    hand_over(&mut world, 1..9);
    eventually("r2 has the first ones", || {
        let written = world.cloud("r2").proxy().writes().len();
        // With the owner's mark.
        wait::is(written >= 8, written)
    });
    assert_eq!(still.waiting(), AT_ONCE, "b2's lane is full");
    let busy = world.cloud("r2").proxy().hold("PUT", ".gz");
    hand_over(&mut world, 9..25);
    busy.await_waiting(AT_ONCE);
    assert_eq!(still.waiting(), AT_ONCE, "and nothing of b2's moved");
    busy.open();
    still.open();
    world.await_archived();
    world.assert_written_once();
}

#[test]
fn a_cloud_that_stands_still_in_a_large_file_loses_its_place_and_not_its_copy() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.streaming_threshold", "8MiB")
        .setting("repositories.b2.idle_timeout", "5m")
        .build();
    // Larger than all that waits in front of a cloud: pieces, parts on their way, one being filled.
    let maker = MAKER.segment_size(64 << 20);
    let key = format!("wal/{}.gz", maker.name(1));
    let still = world.cloud("b2").proxy().hold("PUT", ".gz");
    world.hand_over(&maker.name(1), &maker.bytes(1, Fill::Random));
    world.worker();
    eventually("r2 has the whole object", || {
        let written = world.cloud("r2").bucket().head(&key).is_some();
        wait::is(written, still.waiting())
    });
    assert!(still.waiting() > 0, "b2 has not moved");
    // What b2 was given so far may not pass for the object.
    still.open();
    world.await_archived();
    let read = world.cloud("r2").proxy().count("GET", &key);
    assert!(read > 0, "b2's copy can only have come from r2");
    world.assert_written_once();
}
