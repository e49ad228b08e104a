//! A cloud that is down, comes back, or lies.

use std::time::Duration;

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Fault, World, eventually, eventually_within, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_003,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

fn hand_over(world: &mut World, numbers: std::ops::Range<u64>) {
    for number in numbers {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
}

/// b2 is down from before the first start on; r2 gets everything all the same,
/// nothing is deleted or called VERIFIED; b2 is back and healed.
fn check_down(fault: Fault) {
    let mut world = World::builder().quick_clouds().build();
    world.cloud("b2").proxy().fault(fault);
    hand_over(&mut world, 1..11);
    world.worker();
    world.scheduler();

    eventually("r2 holds everything", || {
        let rows = world.number("SELECT count(*) FROM backups WHERE r2_path IS NOT NULL");
        wait::is(rows == 10, rows)
    });
    world
        .originals()
        .compare(world.cloud("r2").bucket(), "wal/")
        .expect("r2 is complete");
    for (name, backup) in world.backups() {
        assert_ne!(backup.status, "VERIFIED", "{name}");
        assert_eq!(backup.b2_path, None, "{name}");
    }
    assert_eq!(
        world.archived_files(),
        world.originals().names(),
        "nothing is deleted yet"
    );

    world.cloud("b2").proxy().pass();
    eventually_within(Duration::from_secs(60), "healing has begun", || {
        let healed = world.number("SELECT count(*) FROM backups WHERE b2_path IS NOT NULL");
        wait::is(healed > 0, healed)
    });
    world.await_archived();
    world.assert_written_once();
    // Not read and packed again: the compressed copy came from the other cloud.
    assert_eq!(world.cloud("r2").proxy().count("GET", ".gz"), 10);
}

#[test]
fn while_b2_refuses_r2_goes_on_and_b2_is_healed_when_it_is_back() {
    check_down(Fault::Refuse);
}

#[test]
fn while_b2_answers_503_r2_goes_on_and_b2_is_healed_when_it_is_back() {
    check_down(Fault::Status(503));
}

#[test]
fn while_b2_is_a_blackhole_r2_goes_on_and_b2_is_healed_when_it_is_back() {
    check_down(Fault::Blackhole);
}

#[test]
fn while_b2_denies_access_r2_goes_on_and_b2_is_healed_when_it_is_back() {
    check_down(Fault::Status(403));
}

#[test]
fn while_b2_has_no_bucket_r2_goes_on_and_b2_is_healed_when_it_is_back() {
    check_down(Fault::Status(404));
}

#[test]
fn with_a_wrong_secret_for_b2_r2_goes_on_and_b2_is_healed_with_the_right_one() {
    let mut world = World::builder().quick_clouds().build();
    let right = world.environment()["BACKBLAZE_B2_APPLICATION_KEY"].clone();
    world.set_variable("BACKBLAZE_B2_APPLICATION_KEY", "wrong");
    let wrong = world.worker();
    hand_over(&mut world, 1..4);
    eventually("r2 holds everything, and status names b2's cause", || {
        let rows = world.number("SELECT count(*) FROM backups WHERE r2_path IS NOT NULL");
        let status = world.cli(&["--json", "status"]).json();
        let repositories = status["clusters"][0]["repositories"].clone();
        let b2 = repositories.as_array().and_then(|all| {
            all.iter()
                .find(|one| one["repository"] == "b2" && one["cause"].is_string())
        });
        wait::is(rows == 3 && b2.is_some(), (rows, repositories.clone()))
    });
    assert_eq!(
        world.number("SELECT count(*) FROM backups WHERE b2_path IS NOT NULL"),
        0
    );
    wrong.terminate();
    wrong.wait();
    world.set_variable("BACKBLAZE_B2_APPLICATION_KEY", &right);
    world.worker();
    world.await_archived();
}

#[test]
fn a_cloud_that_stands_still_loses_its_place_in_memory_and_not_its_copies() {
    // Nothing times out here: what a cloud holds back is there until the gate opens.
    let mut world = World::builder()
        .quick_clouds()
        .setting("repositories.b2.idle_timeout", "5m")
        .build();
    let gate = world.cloud("b2").proxy().hold("PUT", ".gz");
    world.worker();
    // Several times as many as one worker has places for.
    hand_over(&mut world, 1..41);
    // In the bucket: the eight that b2 has in hand are cataloged when it is done with them.
    eventually_within(Duration::from_secs(60), "r2 holds everything", || {
        let keys = world.cloud("r2").bucket().keys("wal/");
        let objects = keys.iter().filter(|key| key.ends_with(".gz")).count();
        wait::is(objects == 40, objects)
    });
    assert!(
        gate.waiting() <= 8,
        "{} uploads hold memory",
        gate.waiting()
    );
    assert_eq!(world.archived_files().len(), 40, "nothing is deleted yet");
    gate.open();
    world.await_archived_within(Duration::from_secs(120));
    world.assert_written_once();
}

#[test]
fn check_warns_while_a_cloud_is_down_and_deletion_waits_for_all_copies() {
    let mut world = World::builder().quick_clouds().build();
    world.cloud("b2").proxy().fault(Fault::Refuse);
    world.worker();
    hand_over(&mut world, 1..2);
    eventually("check says what the outage will lead to", || {
        let check = world.cli(&["check"]);
        let told = check.stdout.contains("archive.delete_after_one_copy_above");
        wait::is(told && check.code != 0, check)
    });
    let status = world.cli(&["--json", "status"]).json();
    let b2 = status["clusters"][0]["repositories"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["repository"] == "b2").cloned())
        .expect("b2 is listed");
    assert_eq!(b2["due"], 1, "{b2}");
    assert!(b2["behind_since"].is_string(), "{b2}");
    assert_ne!(b2["breaker"], "closed", "{b2}");
}

#[test]
fn a_put_whose_answer_was_lost_is_settled_without_a_second_object() {
    let mut world = World::builder().quick_clouds().build();
    world.cloud("b2").proxy().fault(
        walferry_tests::Rule::new(Fault::DropResponse)
            .on("PUT")
            .for_keys_with(".gz")
            .times(1),
    );
    hand_over(&mut world, 1..2);
    world.worker();
    world.await_archived();
}

#[test]
fn reading_back_sees_a_flipped_byte_and_the_segment_is_never_called_verified() {
    let mut world = World::builder()
        .setting("archive.verify", "read-back")
        .build();
    world
        .cloud("b2")
        .proxy()
        .fault(walferry_tests::Rule::new(Fault::FlipStored).for_keys_with(".gz"));
    hand_over(&mut world, 1..2);
    world.worker();
    let key = format!("wal/{}.gz", MAKER.name(1));
    eventually("the copy in b2 was read back and found wrong", || {
        let rows = world.rows("SELECT state, last_error FROM copies WHERE repository = 'b2'");
        let found = rows.iter().any(|row| row[1].is_some());
        wait::is(
            found && world.cloud("b2").proxy().count("GET", &key) > 0,
            rows,
        )
    });
    let backup = world.backups()[&MAKER.name(1)].clone();
    assert_ne!(backup.status, "VERIFIED");
    assert_eq!(backup.b2_path, None);
    assert!(
        world.archived_files().contains(&MAKER.name(1)),
        "the local file stays"
    );
    world
        .originals()
        .compare(world.cloud("b2").bucket(), "wal/")
        .expect_err("b2 holds a damaged object");
}

#[test]
fn a_head_does_not_see_a_flipped_byte_behind_the_right_etag() {
    let mut world = World::builder().setting("archive.verify", "head").build();
    world
        .cloud("b2")
        .proxy()
        .fault(walferry_tests::Rule::new(Fault::FlipStored).for_keys_with(".gz"));
    hand_over(&mut world, 1..2);
    world.worker();
    world.await_verified_within(Duration::from_secs(60));
    let wrong = world
        .originals()
        .compare(world.cloud("b2").bucket(), "wal/");
    let wrong = wrong.expect_err("what docs/operations.md says of `head`");
    assert!(wrong.contains(&MAKER.name(1)), "{wrong}");
}
