//! The lease is looked at again before each PUT and each unlink: a claim that somebody else
//! has by then writes and deletes nothing.

use std::time::Duration;

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Fault, World, WorldBuilder, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_033,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};
/// Above the threshold that [`streaming`] sets.
const LARGE: Maker = Maker {
    segment_size: 16 << 20,
    ..MAKER
};

/// So long between two renewals that only looking at the lease tells that it is lost.
fn seldom_renewed() -> WorldBuilder {
    World::builder()
        .quick_clouds()
        .setting("archive.claim_lease", "90s")
        .setting("archive.claim_renew", "30s")
}

fn streaming(builder: WorldBuilder) -> WorldBuilder {
    builder.setting("archive.streaming_threshold", "8MiB")
}

/// Somebody else has the claim while the owner mark is read, which is right before the PUT.
fn check_put(world: &mut World, maker: &Maker, clouds: &[&str], begin: impl FnOnce(&mut World)) {
    let gates: Vec<_> = clouds
        .iter()
        .map(|cloud| world.cloud(cloud).proxy().hold("GET", "walferry-owner"))
        .collect();
    let worker = world.worker();
    begin(world);
    for gate in &gates {
        gate.await_waiting(1);
    }
    world.rows(
        "UPDATE wal_files SET attempt = attempt + 1, claimed_by = 'thief', \
                lease_until = clock_timestamp() + interval '1 h' RETURNING id",
    );
    for gate in &gates {
        gate.open();
    }
    let written = |world: &World| -> usize {
        let proxies = clouds.iter().map(|cloud| world.cloud(cloud).proxy());
        proxies
            .map(|proxy| proxy.count("PUT", &maker.name(1)) + proxy.count("POST", &maker.name(1)))
            .sum()
    };
    eventually("the loss was noticed for each repository", || {
        assert_eq!(written(world), 0, "something was put under a lost claim");
        let log = worker.log();
        let lost = log.matches("the lease on the claim was lost").count();
        wait::is(lost >= clouds.len(), lost)
    });
    assert_eq!(written(world), 0, "something was put under a lost claim");
    world.rows("UPDATE wal_files SET claimed_by = NULL, lease_until = NULL RETURNING id");
    world.cli(&["enqueue", "continuous-wal-archiving"]).ok();
    world.await_archived();
}

#[test]
fn a_claim_that_was_lost_before_the_put_puts_nothing() {
    let mut world = seldom_renewed().build();
    check_put(&mut world, &MAKER, &["r2", "b2"], |world| {
        world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    });
}

#[test]
fn a_claim_that_was_lost_before_the_first_part_sends_none() {
    let mut world = streaming(seldom_renewed()).build();
    check_put(&mut world, &LARGE, &["r2", "b2"], |world| {
        world.hand_over(&LARGE.name(1), &LARGE.bytes(1, Fill::Light));
    });
}

fn check_healing(builder: WorldBuilder, maker: &Maker, fill: Fill) {
    let mut world = builder.build();
    world.cloud("b2").proxy().fault(Fault::Refuse);
    check_put(&mut world, maker, &["b2"], |world| {
        world.hand_over(&maker.name(1), &maker.bytes(1, fill));
        eventually("r2 holds it", || {
            let rows = world.number("SELECT count(*) FROM backups WHERE r2_path IS NOT NULL");
            wait::is(rows == 1, rows)
        });
        world.cloud("b2").proxy().pass();
    });
}

#[test]
fn a_claim_that_was_lost_while_healing_puts_nothing() {
    check_healing(seldom_renewed(), &MAKER, Fill::Light);
}

#[test]
fn a_claim_that_was_lost_while_healing_in_parts_sends_none() {
    check_healing(streaming(seldom_renewed()), &LARGE, Fill::Random);
}

#[test]
fn a_claim_that_was_lost_before_the_unlink_deletes_nothing() {
    let mut world = seldom_renewed().build();
    // The lease ends with the very commit that permits the deletion.
    world.rows(
        "CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN NEW.lease_until := clock_timestamp() - interval ''1 s''; \
                NEW.due_at := clock_timestamp() + interval ''20 s''; RETURN NEW; END'",
    );
    world.rows(
        "CREATE TRIGGER steal BEFORE UPDATE ON wal_files FOR EACH ROW \
         WHEN (NEW.status = 'VERIFIED' AND OLD.status <> 'VERIFIED') EXECUTE FUNCTION steal()",
    );
    let worker = world.worker();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.await_verified_within(Duration::from_secs(60));
    worker.await_log("the claim is no longer held");
    // Put aside for the deletion, and put back.
    eventually("it was not deleted under a lost claim", || {
        let files = world.archived_files();
        wait::is(files.contains(&MAKER.name(1)), files)
    });
    world.rows("DROP TRIGGER steal ON wal_files");
    world.rows("UPDATE wal_files SET due_at = clock_timestamp() RETURNING id");
    world.cli(&["enqueue", "continuous-wal-archiving"]).ok();
    world.await_archived();
}
