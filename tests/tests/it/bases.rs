//! Retention with base backups that are known from archived `.backup` labels.

use chrono::{TimeDelta, Utc};
use walferry_tests::World;
use walferry_tests::wal::{Fill, Maker};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_028,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

#[derive(Clone)]
struct Label {
    name: String,
    text: String,
    days_ago: i64,
}

/// The label of a base backup from segment `first` to `last`, as PostgreSQL 15 writes it.
fn label(first: u64, last: u64, days_ago: i64) -> Label {
    let time = (Utc::now() - TimeDelta::days(days_ago)).format("%Y-%m-%d %H:%M:%S UTC");
    let place = |number: u64, offset: u64| {
        format!(
            "0/{:X} (file {})",
            (number << 20) + offset,
            MAKER.name(number)
        )
    };
    let text = format!(
        "START WAL LOCATION: {}\nSTOP WAL LOCATION: {}\nCHECKPOINT LOCATION: 0/{:X}\n\
         BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: {time}\nLABEL: nightly\n\
         START TIMELINE: 1\nSTOP TIME: {time}\nSTOP TIMELINE: 1\n",
        place(first, 0x28),
        place(last, 0x100),
        (first << 20) + 0x60,
    );
    Label {
        name: format!("{}.00000028.backup", MAKER.name(first)),
        text,
        days_ago,
    }
}

/// Segments 1 to 8 and these labels are archived; segments 1 to 6 are 31 days old, each label
/// as old as its backup.
fn world_with_bases(labels: &[Label]) -> World {
    let mut world = World::builder().quick_clouds().build();
    for number in 1..9 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    for label in labels {
        world.hand_over(&label.name, label.text.as_bytes());
    }
    let worker = world.worker();
    world.await_archived();
    worker.terminate();
    worker.wait();
    let age = |days: i64, which: &str| {
        world.rows(&format!(
            "UPDATE wal_files SET (mtime, verified_at, registered_at) = \
             (SELECT t, t, t FROM (VALUES (now() - interval '{days} days')) AS v (t)) WHERE {which}"
        ));
    };
    age(
        31,
        &format!("kind = 'segment' AND name <= '{}'", MAKER.name(6)),
    );
    for label in labels {
        age(label.days_ago, &format!("name = '{}'", label.name));
    }
    world
}

/// `apply` leaves these segments and labels, and says whether the window is proven.
fn check(world: &World, numbers: std::ops::Range<u64>, labels: &[&Label], proven: bool) {
    let applied = world.cli(&["--json", "retention", "apply", "--yes"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    let applied = applied.json();
    assert_eq!(applied[0]["window_proven"], proven, "{applied}");
    let mut wanted: Vec<String> = numbers
        .map(|number| format!("wal/{}.gz", MAKER.name(number)))
        .chain(labels.iter().map(|label| format!("wal/{}.gz", label.name)))
        .collect();
    wanted.sort();
    for cloud in world.clouds() {
        let mut keys = cloud.bucket().keys("wal/");
        keys.retain(|key| !key.starts_with("wal/walferry-"));
        keys.sort();
        assert_eq!(keys, wanted, "{}: {applied}", cloud.name());
    }
}

#[test]
fn what_the_newest_base_before_the_window_needs_stays_and_older_segments_go() {
    let base = label(4, 5, 32);
    let world = world_with_bases(std::slice::from_ref(&base));
    check(&world, 4..9, &[&base], true);
}

#[test]
fn of_two_bases_before_the_window_the_newer_one_decides() {
    let (older, newer) = (label(2, 3, 40), label(4, 5, 32));
    let world = world_with_bases(&[older, newer.clone()]);
    check(&world, 4..9, &[&newer], true);
}

#[test]
fn a_base_completed_within_the_window_keeps_what_it_needs_and_proves_no_window() {
    let within = label(5, 6, 29);
    let world = world_with_bases(std::slice::from_ref(&within));
    check(&world, 5..9, &[&within], false);
}

#[test]
fn a_base_completed_before_the_window_keeps_what_it_needs_besides_a_later_one() {
    let (before, within) = (label(2, 3, 40), label(5, 6, 29));
    let world = world_with_bases(&[before.clone(), within.clone()]);
    check(&world, 2..9, &[&before, &within], true);
}

#[test]
fn with_no_base_known_age_decides_and_the_window_is_called_not_proven() {
    let world = world_with_bases(&[]);
    let plan = world.cli(&["retention", "plan"]);
    assert!(plan.stdout.contains("WARNING"), "{plan:?}");
    check(&world, 7..9, &[], false);
}
