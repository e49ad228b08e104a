use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use walferry_catalog::bases::{self, Base, BaseCopyState, Begun, Ended, Keep, RunOutcome, RunRow};
use walferry_catalog::clusters::Prefix;
use walferry_catalog::{BaseRun, CatalogError, CopyFailure, Enough, clusters, completion, labels};
use walferry_wal::{Lsn, SegmentSize, SystemId, TimelineId};

use crate::world::{World, proof, repository, segment};

const SIZE: u64 = 16 << 20;
const LEASE: Duration = Duration::from_secs(30);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_793_734_200 + seconds, 0).unwrap()
}

fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

/// From within segment `start` to within segment `stop` of timeline 1.
fn base(label: &str, start: u64, stop: u64) -> Base {
    Base {
        label: label.to_owned(),
        system_id: SystemId::new(u64::MAX),
        segment_size: SegmentSize::DEFAULT,
        server_version: 150_018,
        from_standby: false,
        start_lsn: Lsn::new(start * SIZE + 0x28),
        start_timeline: timeline(1),
        stop_lsn: Lsn::new(stop * SIZE + 0x100),
        stop_timeline: timeline(1),
        started_at: at(0),
        stopped_at: at(12),
        size: 750 << 20,
        stored_size: 180 << 20,
        tablespaces: 1,
    }
}

async fn record(world: &mut World, base: &Base, complete: &[&str], dropped: &[&str]) {
    let complete: Vec<_> = complete.iter().map(|name| repository(name)).collect();
    let dropped: Vec<_> = dropped
        .iter()
        .map(|name| (repository(name), "it stalled".to_owned()))
        .collect();
    bases::record(&mut world.conn, world.prefix, base, &complete, &dropped)
        .await
        .unwrap();
}

/// `repository state reason`, one a line, of the newest base.
async fn copies(world: &mut World) -> Vec<String> {
    let rows = bases::list(&mut world.conn, world.prefix).await.unwrap();
    rows[0]
        .copies
        .iter()
        .map(|copy| {
            let reason = copy.reason.as_deref().unwrap_or("-");
            format!("{} {} {reason}", copy.repository, copy.state.as_str())
        })
        .collect()
}

#[tokio::test]
async fn a_base_is_listed_as_it_was_recorded_the_newest_first() {
    let mut world = World::new().await;
    let (older, newer) = (
        base("20261102T193000Z", 2, 3),
        base("20261103T193000Z", 4, 5),
    );
    record(&mut world, &newer, &["r2"], &["b2"]).await;
    record(&mut world, &older, &["r2", "b2"], &[]).await;
    let rows = bases::list(&mut world.conn, world.prefix).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| &row.base).collect::<Vec<_>>(),
        [&newer, &older]
    );
    assert_eq!(rows[1].copies.len(), 2);
    assert_eq!(
        copies(&mut world).await,
        ["b2 dropped it stalled", "r2 complete -"]
    );
}

#[tokio::test]
async fn recording_again_changes_nothing_and_what_is_complete_is_not_dropped_again() {
    let mut world = World::new().await;
    let base = base("20261103T193000Z", 4, 5);
    record(&mut world, &base, &["r2"], &["b2"]).await;
    let first = bases::list(&mut world.conn, world.prefix).await.unwrap();
    record(&mut world, &base, &["r2"], &["b2"]).await;
    record(&mut world, &base, &[], &["r2"]).await;
    let again = bases::list(&mut world.conn, world.prefix).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].copies, first[0].copies, "also the times");
}

#[tokio::test]
async fn a_dropped_copy_becomes_complete_and_a_removed_one_stays_known() {
    let mut world = World::new().await;
    record(
        &mut world,
        &base("20261103T193000Z", 4, 5),
        &["r2"],
        &["b2"],
    )
    .await;
    let (prefix, b2, r2) = (world.prefix, repository("b2"), repository("r2"));
    let label = "20261103T193000Z";
    bases::copied(&mut world.conn, prefix, label, &b2)
        .await
        .unwrap();
    bases::removed(&mut world.conn, prefix, label, &r2, "expired")
        .await
        .unwrap();
    assert_eq!(
        copies(&mut world).await,
        ["b2 complete -", "r2 removed expired"]
    );
    for unknown in [
        bases::copied(&mut world.conn, prefix, "20261104T193000Z", &b2).await,
        bases::removed(&mut world.conn, prefix, "20261104T193000Z", &b2, "x").await,
        bases::keep(&mut world.conn, prefix, "20261104T193000Z", None).await,
    ] {
        assert!(
            matches!(unknown, Err(CatalogError::Unknown { .. })),
            "{unknown:?}"
        );
    }
}

#[tokio::test]
async fn keeping_is_for_ever_or_until_a_time_and_ends() {
    let mut world = World::new().await;
    let base = base("20261103T193000Z", 4, 5);
    record(&mut world, &base, &["r2"], &[]).await;
    let until = Keep {
        until: Some(at(86_400)),
    };
    for wanted in [Some(Keep { until: None }), Some(until), None] {
        bases::keep(&mut world.conn, world.prefix, &base.label, wanted)
            .await
            .unwrap();
        // Taking note of the base once more is no word about keeping it.
        record(&mut world, &base, &["r2"], &[]).await;
        let rows = bases::list(&mut world.conn, world.prefix).await.unwrap();
        assert_eq!(rows[0].keep, wanted);
    }
}

async fn prefix(world: &mut World) -> Prefix {
    clusters::clusters(&mut world.conn)
        .await
        .unwrap()
        .remove(0)
        .prefix
}

/// `repository usable last`, one a line.
async fn reach(world: &mut World, base: &Base) -> Vec<String> {
    let prefix = prefix(world).await;
    bases::reach(&mut world.conn, &prefix, base)
        .await
        .unwrap()
        .into_iter()
        .map(|wal| {
            let last = wal.last.map_or("none".to_owned(), |name| name.to_string());
            let usable = if wal.usable { "usable" } else { "not-usable" };
            format!("{} {usable} {last}", wal.repository)
        })
        .collect()
}

async fn only_in_r2(world: &mut World, name: &str) {
    world.register(&[name]).await;
    let claim = world.claim_one("w").await;
    world.pack(&claim).await;
    let failure = CopyFailure {
        repository: repository("b2"),
        error: "403 cap exceeded".to_owned(),
        cause: "denied".to_owned(),
        retry_after: Duration::from_secs(600),
    };
    let _ = completion::complete(
        &mut world.conn,
        claim.token,
        vec![proof(&claim, "r2")],
        vec![failure],
        Enough::AllRequired,
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_base_is_usable_where_its_wal_is_verified_from_start_to_stop() {
    let mut world = World::new().await;
    let base = base("20261103T193000Z", 2, 3);
    assert_eq!(
        reach(&mut world, &base).await,
        ["b2 not-usable none", "r2 not-usable none"]
    );
    world.archived(&[&segment(1), &segment(2)]).await;
    let second = segment(2);
    assert_eq!(
        reach(&mut world, &base).await,
        [
            format!("b2 not-usable {second}"),
            format!("r2 not-usable {second}")
        ]
    );
    only_in_r2(&mut world, &segment(3)).await;
    world.archived(&[&segment(4), &segment(6)]).await;
    assert_eq!(
        reach(&mut world, &base).await,
        [
            format!("b2 not-usable {second}"),
            format!("r2 usable {}", segment(4))
        ],
        "b2 lacks 3, and 5 was never handed over"
    );
}

#[tokio::test]
async fn wal_from_before_its_start_and_behind_a_hole_does_not_help_a_base() {
    let mut world = World::new().await;
    world
        .archived(&[&segment(1), &segment(3), &segment(4)])
        .await;
    let started_in_the_hole = base("20261103T193000Z", 2, 3);
    assert_eq!(
        reach(&mut world, &started_in_the_hole).await,
        ["b2 not-usable none", "r2 not-usable none"]
    );
    let mut exact = base("20261103T193000Z", 3, 5);
    exact.stop_lsn = Lsn::new(5 * SIZE);
    assert_eq!(
        reach(&mut world, &exact).await[0],
        format!("b2 usable {}", segment(4)),
        "it stops before the first byte of 5"
    );
}

#[tokio::test]
async fn a_base_that_crossed_a_promotion_needs_the_wal_of_both_timelines() {
    let mut world = World::new().await;
    let mut crossed = base("20261103T193000Z", 2, 4);
    crossed.stop_timeline = timeline(2);
    let on_two = |number: u32| segment(number).replacen("00000001", "00000002", 1);
    world.archived(&[&segment(2), &on_two(3), &on_two(4)]).await;
    assert!(
        reach(&mut world, &crossed).await.is_empty(),
        "nobody knows the way"
    );
    // Timeline 1 was left within segment 3.
    labels::insert_history(
        &mut world.conn,
        world.prefix,
        timeline(2),
        b"1\t0/3000100\tno recovery target specified\n",
    )
    .await
    .unwrap();
    assert_eq!(
        reach(&mut world, &crossed).await[0],
        format!("b2 usable {}", on_two(4))
    );
    let mut later = crossed.clone();
    later.start_lsn = Lsn::new(SIZE + 0x28);
    assert_eq!(
        reach(&mut world, &later).await[0],
        "b2 not-usable none",
        "segment 1 is missing"
    );
}

async fn begin(world: &mut World, by: &str) -> Begun {
    bases::begin(&mut world.conn, world.cluster, by, LEASE)
        .await
        .unwrap()
}

#[track_caller]
fn run(begun: &Begun) -> BaseRun {
    match begun {
        Begun::Run(run) => *run,
        Begun::Held { by, .. } => panic!("held by {by}"),
    }
}

async fn end(
    world: &mut World,
    run: BaseRun,
    outcome: Option<(RunOutcome, Option<&str>)>,
) -> Option<Ended> {
    bases::end(&mut world.conn, world.cluster, run, outcome)
        .await
        .unwrap()
}

async fn row(world: &mut World) -> RunRow {
    let run = bases::last_run(&mut world.conn, world.cluster).await;
    run.unwrap().expect("a run")
}

#[tokio::test]
async fn one_run_at_a_time_takes_a_base_of_a_cluster() {
    let mut world = World::new().await;
    let first = run(&begin(&mut world, "a").await);
    let Begun::Held { by, until } = begin(&mut world, "b").await else {
        panic!("two at once");
    };
    assert_eq!(by, "a");
    assert!(until > Utc::now() - TimeDelta::days(1));
    assert_eq!(row(&mut world).await.held_by.as_deref(), Some("a"));
    end(&mut world, first, Some((RunOutcome::Complete, None))).await;
    assert_eq!(row(&mut world).await.held_by, None);
    let _ = run(&begin(&mut world, "b").await);
}

#[tokio::test]
async fn a_run_whose_lease_ran_out_is_followed_and_writes_nothing_any_more() {
    let mut world = World::new().await;
    let killed = run(&begin(&mut world, "killed").await);
    assert!(
        bases::renew(&mut world.conn, world.cluster, killed, LEASE)
            .await
            .unwrap()
    );
    world
        .sql("UPDATE base_runs SET lease_until = clock_timestamp() - interval '1 s'")
        .await;
    assert_eq!(
        row(&mut world).await.held_by,
        None,
        "it gives no sign of life"
    );
    let next = run(&begin(&mut world, "next").await);
    assert_ne!(killed, next);
    assert!(
        !bases::renew(&mut world.conn, world.cluster, killed, LEASE)
            .await
            .unwrap()
    );
    let late = end(&mut world, killed, Some((RunOutcome::Failed, Some("late")))).await;
    assert_eq!(late, None);
    let row = row(&mut world).await;
    assert_eq!((row.held_by.as_deref(), row.outcome), (Some("next"), None));
}

#[tokio::test]
async fn failures_are_counted_until_a_success_and_a_stop_says_nothing() {
    let mut world = World::new().await;
    for failures in 1..=3 {
        let run = run(&begin(&mut world, "w").await);
        let failed = Some((RunOutcome::Failed, Some("no pg_hba.conf entry")));
        let ended = end(&mut world, run, failed).await;
        assert_eq!(ended, Some(Ended { failures }));
    }
    let since = row(&mut world).await.failed_since.expect("a time");
    let drained = run(&begin(&mut world, "w").await);
    end(&mut world, drained, None).await;
    let after = row(&mut world).await;
    assert_eq!(after.outcome, Some(RunOutcome::Failed));
    assert_eq!(after.error.as_deref(), Some("no pg_hba.conf entry"));
    assert_eq!((after.failures, after.failed_since), (3, Some(since)));
    assert_eq!(after.succeeded_at, None);

    let good = run(&begin(&mut world, "w").await);
    let ended = end(&mut world, good, Some((RunOutcome::Partial, None))).await;
    assert_eq!(ended, Some(Ended { failures: 0 }));
    let after = row(&mut world).await;
    assert_eq!((after.error, after.failed_since), (None, None));
    assert!(after.succeeded_at.is_some());
}

#[tokio::test]
async fn no_server_is_no_failure() {
    let mut world = World::new().await;
    let run = run(&begin(&mut world, "w").await);
    let ended = end(&mut world, run, Some((RunOutcome::NoServer, None))).await;
    assert_eq!(ended, Some(Ended { failures: 0 }));
    assert_eq!(row(&mut world).await.outcome, Some(RunOutcome::NoServer));
    assert_eq!(BaseCopyState::Removed.as_str(), "removed");
}
