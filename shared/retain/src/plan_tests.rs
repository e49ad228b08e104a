//! Plans by example. The laws that hold for every plan are in `plan_laws.rs`.

use chrono::{DateTime, TimeDelta, Utc};
use walferry_wal::{History, HistoryEntry, Lsn, SegmentName, SegmentSize, TimelineId, WalFile};

use super::*;
use crate::inventory::{Base, FileFacts, Lies, Status};

pub(crate) const SIZE: SegmentSize = SegmentSize::DEFAULT;

pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

pub(crate) fn days_ago(days: i64) -> DateTime<Utc> {
    now() - TimeDelta::days(days)
}

pub(crate) fn timeline(id: u32) -> TimelineId {
    TimelineId::new(id).unwrap()
}

pub(crate) fn segment(on: u32, number: u64) -> SegmentName {
    SegmentName::from_number(timeline(on), number, SIZE).unwrap()
}

pub(crate) fn lsn(number: u64) -> Lsn {
    Lsn::new(number * SIZE.bytes() + 0x28)
}

/// Verified in the first two repositories.
pub(crate) fn file(file: WalFile, archived_at: DateTime<Utc>) -> FileFacts {
    FileFacts {
        file,
        status: Status::Verified,
        archived_at,
        busy: false,
        verified: RepositorySet::first(2),
        due: RepositorySet::EMPTY,
        expiring: RepositorySet::EMPTY,
    }
}

pub(crate) fn base(on: u32, start: u64, stop: u64, stopped_at: DateTime<Utc>) -> Base {
    Base {
        start_lsn: lsn(start),
        stop_lsn: lsn(stop),
        start_segment: segment(on, start),
        stop_segment: segment(on, stop),
        stopped_at,
        label: "nightly".to_owned(),
        lies: Lies::Elsewhere,
        kept_until: None,
    }
}

pub(crate) fn history(of: u32, entries: &[(u32, u64)]) -> History {
    let entry = |(parent, number): &(u32, u64)| HistoryEntry {
        parent: timeline(*parent),
        switch: lsn(*number),
        reason: String::new(),
    };
    History {
        timeline: timeline(of),
        entries: entries.iter().map(entry).collect(),
    }
}

pub(crate) fn inventory() -> Inventory {
    let mut inventory = Inventory::new("wal/".parse().unwrap(), Some(SIZE));
    inventory.position(&"r2".parse().unwrap());
    inventory.position(&"b2".parse().unwrap());
    inventory
}

/// Segments 0 to `days` on timeline 1: number n was archived `days - n` days ago.
fn one_a_day(days: u64) -> Inventory {
    let mut inventory = inventory();
    for number in 0..=days {
        let age = i64::try_from(days - number).unwrap();
        let name = WalFile::Segment(segment(1, number));
        inventory.files.push(file(name, days_ago(age)));
    }
    inventory
}

/// The numbers of the segments that the plan deletes from the repository at `position`.
fn deleted(plan: &Plan, position: usize) -> Vec<u64> {
    let there = plan.deletions.iter();
    let there = there.filter(|deletion| deletion.copies.contains(position));
    there
        .filter_map(|deletion| match deletion.file {
            WalFile::Segment(name) => name.number(SIZE).ok(),
            _ => None,
        })
        .collect()
}

#[track_caller]
fn check(inventory: &Inventory, expected_r2: std::ops::Range<u64>) -> Plan {
    let plan = plan(inventory, &Policy::default(), now());
    assert_eq!(deleted(&plan, 0), expected_r2.collect::<Vec<_>>());
    plan
}

#[test]
fn thirty_days_to_the_second_are_kept_and_one_second_more_is_not() {
    let mut inventory = inventory();
    for (number, age) in [(1, 0), (2, 1), (3, -1)] {
        let archived = days_ago(30) - TimeDelta::seconds(age);
        let name = WalFile::Segment(segment(1, number));
        inventory.files.push(file(name, archived));
    }
    let plan = check(&inventory, 2..3);
    assert_eq!(
        plan.deletions[0].key.as_str(),
        "wal/000000010000000000000002.gz"
    );
    assert_eq!(plan.cutoff, days_ago(30));
}

#[test]
fn without_a_base_age_decides_and_the_warning_is_loud() {
    let plan = check(&one_a_day(40), 0..10);
    assert_eq!(plan.deletions[0].reason, Reason::AgeAlone);
    assert!(!plan.window_proven());
    assert_eq!(
        plan.warnings,
        [Warning::NoBaseKnown {
            cutoff: days_ago(30)
        }]
    );
    let said = plan.warnings[0].to_string();
    assert!(
        said.contains("NOT PROVEN") && said.contains("HINT:"),
        "{said}"
    );
}

#[test]
fn the_newest_base_before_the_window_keeps_its_wal() {
    let mut inventory = one_a_day(40);
    inventory.bases = vec![
        base(1, 2, 3, days_ago(37)),
        base(1, 6, 7, days_ago(33)),
        base(1, 20, 20, days_ago(20)),
    ];
    let plan = check(&inventory, 0..6);
    assert!(plan.window_proven());
    assert_eq!(plan.warnings, []);
    assert_eq!(plan.deletions[0].reason, Reason::NeededByNoBase);
    let because = Because::NeededByBase {
        segment: segment(1, 6),
        stopped_at: days_ago(33),
    };
    let kept = plan
        .kept
        .iter()
        .find(|kept| kept.because == because)
        .unwrap();
    assert_eq!(kept.files, 4);
    assert_eq!(kept.first, WalFile::Segment(segment(1, 6)));
}

#[test]
fn a_base_that_ended_within_the_window_keeps_its_own_start_but_proves_nothing() {
    let mut inventory = one_a_day(40);
    inventory.bases = vec![base(1, 8, 12, days_ago(28))];
    let plan = check(&inventory, 0..8);
    assert!(!plan.window_proven());
    let no_base = |name: &str| Warning::NoBaseBeforeWindow {
        repository: name.parse().unwrap(),
        cutoff: days_ago(30),
    };
    assert_eq!(plan.warnings, [no_base("r2"), no_base("b2")]);
}

#[test]
fn a_label_counts_only_where_its_wal_is_verified() {
    let mut inventory = one_a_day(40);
    inventory.bases = vec![base(1, 2, 3, days_ago(37)), base(1, 6, 8, days_ago(32))];
    // Segment 7, in the middle of the newer base, never reached b2.
    inventory.files[7].verified = RepositorySet::first(1);
    inventory.files[7].due = RepositorySet::EMPTY.with(1);
    let plan = check(&inventory, 0..6);
    assert_eq!(deleted(&plan, 1), [0, 1], "b2 rests on the older base");
    assert_eq!(
        plan.warnings,
        [Warning::BaseIncomplete {
            repository: "b2".parse().unwrap(),
            segment: segment(1, 6)
        }]
    );
}

#[test]
fn a_base_whose_wal_is_nowhere_complete_is_kept_for_but_proves_nothing() {
    let mut inventory = one_a_day(40);
    inventory.bases = vec![base(1, 6, 8, days_ago(32))];
    inventory.files.remove(7);
    let plan = check(&inventory, 0..6);
    assert!(!plan.window_proven());
}

#[test]
fn history_files_stay_whatever_their_age() {
    let mut inventory = inventory();
    let name = WalFile::History(timeline(2));
    inventory.files.push(file(name, days_ago(4000)));
    let plan = check(&inventory, 0..0);
    assert_eq!(plan.deletions, []);
    assert_eq!(plan.kept[0].because, Because::History);
}

#[test]
fn labels_and_partial_segments_go_and_stay_with_their_segment() {
    let mut inventory = one_a_day(40);
    inventory.bases = vec![base(1, 6, 7, days_ago(33))];
    for number in [5, 6] {
        let label = WalFile::Label {
            segment: segment(1, number),
            offset: 0x28,
        };
        inventory.files.push(file(label, days_ago(33)));
        let partial = WalFile::Partial(segment(1, number));
        inventory.files.push(file(partial, days_ago(33)));
    }
    let plan = plan(&inventory, &Policy::default(), now());
    let names: Vec<String> = plan.deletions.iter().map(|d| d.file.to_string()).collect();
    // A label goes before its segment, so that no label ever stands without WAL.
    assert_eq!(
        names[5..],
        [
            "000000010000000000000005.00000028.backup",
            "000000010000000000000005",
            "000000010000000000000005.partial"
        ]
    );
}

#[test]
fn what_is_not_verified_or_busy_is_never_touched() {
    let mut inventory = one_a_day(40);
    inventory.files[3].status = Status::Unfinished;
    inventory.files[4].busy = true;
    let plan = plan(&inventory, &Policy::default(), now());
    assert_eq!(deleted(&plan, 0), [0, 1, 2, 5, 6, 7, 8, 9]);
    for because in [Because::NotVerified, Because::Busy] {
        assert!(plan.kept.iter().any(|kept| kept.because == because));
    }
}

#[test]
fn what_an_earlier_run_began_is_finished_and_counts_for_no_base() {
    let mut inventory = one_a_day(40);
    inventory.bases = vec![base(1, 2, 3, days_ago(37)), base(1, 6, 8, days_ago(32))];
    inventory.files[7].status = Status::Expiring;
    inventory.files[7].verified = RepositorySet::EMPTY.with(1);
    inventory.files[7].expiring = RepositorySet::EMPTY.with(0);
    let plan = plan(&inventory, &Policy::default(), now());
    assert_eq!(
        deleted(&plan, 0),
        [0, 1, 7],
        "r2 falls back to the older base"
    );
    assert_eq!(deleted(&plan, 1), [0, 1, 2, 3, 4, 5]);
    let begun = plan.deletions.iter().find(|d| d.reason == Reason::Begun);
    assert_eq!(begun.unwrap().copies, RepositorySet::first(1));
}

#[test]
fn the_old_timeline_is_kept_from_the_base_on_after_a_promotion() {
    let mut inventory = inventory();
    for number in 0..10 {
        let name = WalFile::Segment(segment(1, number));
        inventory.files.push(file(name, days_ago(60)));
    }
    for number in 9..20 {
        let name = WalFile::Segment(segment(2, number));
        inventory
            .files
            .push(file(name, days_ago(i64::try_from(49 - number).unwrap())));
    }
    inventory.bases = vec![base(1, 4, 5, days_ago(60))];
    inventory.histories = vec![history(2, &[(1, 9)])];
    let plan = check(&inventory, 0..4);
    assert!(
        plan.deletions
            .iter()
            .all(|d| d.file.timeline() == timeline(1))
    );
    assert!(plan.window_proven());
}

#[test]
fn a_sibling_timeline_goes_only_if_a_history_proves_it_unneeded() {
    let mut inventory = inventory();
    // Timeline 2 left timeline 1 in segment 3, before the base began there in segment 5.
    for (on, numbers, age) in [(1, 0..12, 40), (2, 3..9, 35), (1, 12..14, 2)] {
        for number in numbers {
            let name = WalFile::Segment(segment(on, number));
            inventory.files.push(file(name, days_ago(age)));
        }
    }
    inventory.bases = vec![base(1, 5, 6, days_ago(38))];
    let on_2 = |plan: &Plan| {
        let on_2 = plan.deletions.iter();
        on_2.filter(|d| d.file.timeline() == timeline(2)).count()
    };
    let unknown = plan(&inventory, &Policy::default(), now());
    assert_eq!(
        on_2(&unknown),
        2,
        "3 and 4 lie before the base on any timeline"
    );
    assert_eq!(
        unknown.warnings[0],
        Warning::HistoryMissing {
            timeline: timeline(2)
        }
    );
    inventory.histories = vec![history(2, &[(1, 3)])];
    let known = plan(&inventory, &Policy::default(), now());
    assert_eq!(on_2(&known), 6);
}

#[test]
fn an_abandoned_timeline_s_newer_base_does_not_take_the_live_one_s_place() {
    let mut inventory = inventory();
    // Recovery into the past: 3 left timeline 1 in segment 6; timeline 2 with the newest
    // base of all was abandoned.
    for (on, numbers, age) in [(1, 0..8, 60), (2, 7..14, 45), (3, 6..12, 10)] {
        for number in numbers {
            let name = WalFile::Segment(segment(on, number));
            inventory.files.push(file(name, days_ago(age)));
        }
    }
    inventory.bases = vec![base(1, 2, 3, days_ago(60)), base(2, 9, 10, days_ago(45))];
    inventory.histories = vec![history(2, &[(1, 7)]), history(3, &[(1, 6)])];
    let plan = check(&inventory, 0..2);
    assert!(plan.window_proven());
}

#[test]
fn an_unknown_segment_size_deletes_nothing() {
    let mut inventory = one_a_day(40);
    inventory.segment_size = None;
    let plan = check(&inventory, 0..0);
    assert_eq!(plan.warnings, [Warning::SegmentSizeUnknown]);
}

#[test]
fn the_share_is_that_of_the_repository_hit_hardest() {
    let mut inventory = one_a_day(39);
    for number in 20..40 {
        inventory.files[number].verified = RepositorySet::first(1);
    }
    let plan = check(&inventory, 0..9);
    assert!((plan.share - 9.0 / 20.0).abs() < 1e-9, "{}", plan.share);
    // What was begun was consented to then.
    for number in 0..9 {
        inventory.files[number].status = Status::Expiring;
        inventory.files[number].expiring = inventory.files[number].verified;
        inventory.files[number].verified = RepositorySet::EMPTY;
    }
    assert_eq!(check(&inventory, 0..9).share, 0.0);
}

/// One of ours, complete in the first of two repositories.
fn ours_in_r2(start: u64, stop: u64, stopped_at: DateTime<Utc>) -> Base {
    Base {
        lies: Lies::Here {
            complete: RepositorySet::first(1),
            coming: RepositorySet::EMPTY,
        },
        ..base(1, start, stop, stopped_at)
    }
}

#[test]
fn a_base_of_ours_counts_only_where_it_lies() {
    let mut inventory = one_a_day(40);
    inventory.bases = vec![ours_in_r2(6, 7, days_ago(33))];
    let plan = check(&inventory, 0..6);
    assert_eq!(deleted(&plan, 1), (0..10).collect::<Vec<_>>());
    assert_eq!(plan.proven, [true, false]);
    assert_eq!(
        plan.warnings,
        [Warning::NoBaseBeforeWindow {
            repository: "b2".parse().unwrap(),
            cutoff: days_ago(30)
        }]
    );
}

#[test]
fn a_repository_that_gets_a_base_later_keeps_its_wal_and_proves_nothing() {
    let mut inventory = one_a_day(40);
    inventory.bases = vec![Base {
        lies: Lies::Here {
            complete: RepositorySet::first(1),
            coming: RepositorySet::EMPTY.with(1),
        },
        ..ours_in_r2(6, 7, days_ago(33))
    }];
    let plan = check(&inventory, 0..6);
    assert_eq!(deleted(&plan, 1), (0..6).collect::<Vec<_>>());
    assert_eq!(plan.proven, [true, false]);
}

#[test]
fn a_base_that_a_person_keeps_keeps_what_makes_it_consistent_until_that_day() {
    let mut inventory = one_a_day(40);
    let kept = |until| Base {
        kept_until: Some(until),
        ..base(1, 2, 3, days_ago(37))
    };
    inventory.bases = vec![kept(DateTime::<Utc>::MAX_UTC), base(1, 6, 7, days_ago(33))];
    let plan = plan(&inventory, &Policy::default(), now());
    assert_eq!(deleted(&plan, 0), [0, 1, 4, 5]);
    let because = Because::NeededByKeptBase {
        label: "nightly".to_owned(),
    };
    let kept_files = plan.kept.iter().find(|kept| kept.because == because);
    assert_eq!(kept_files.map(|kept| kept.files), Some(2));
    inventory.bases[0] = kept(days_ago(1));
    check(&inventory, 0..6);
}

#[test]
fn a_base_goes_where_a_newer_one_recovers_the_whole_window() {
    let mut inventory = one_a_day(40);
    let both = |label: &str, base| Base {
        label: label.to_owned(),
        lies: Lies::Here {
            complete: RepositorySet::first(2),
            coming: RepositorySet::EMPTY,
        },
        ..base
    };
    inventory.bases = vec![
        both("first", base(1, 2, 3, days_ago(37))),
        both("second", base(1, 6, 7, days_ago(33))),
        both("third", base(1, 20, 20, days_ago(20))),
    ];
    // The second one's WAL never reached b2: there the first has to stand in for it.
    inventory.files[7].verified = RepositorySet::first(1);
    let plan = plan(&inventory, &Policy::default(), now());
    let gone: Vec<_> = plan
        .bases
        .iter()
        .map(|base| (&*base.label, base.copies))
        .collect();
    assert_eq!(gone, [("first", RepositorySet::first(1))]);
    assert!(plan.bases[0].to_string().contains("second"));
    let three = Policy {
        min_bases: 3,
        ..Policy::default()
    };
    let plan = super::plan(&inventory, &three, now());
    assert_eq!(plan.bases, []);
    assert_eq!(deleted(&plan, 0), [0, 1]);
}
