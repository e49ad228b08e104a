//! Clouds that are away, runs that are killed, frozen or taken over.

use std::time::Duration;

use walferry_catalog::holds;
use walferry_retain::{Consent, Outcome, Refusal, Why};

use crate::world::{World, segment, segments};

#[tokio::test]
async fn a_cloud_that_is_away_is_left_out_and_its_copies_are_due_again() {
    let mut world = World::one_a_day(40).await;
    world
        .b2
        .break_down(&["clock", "get", "put", "list", "delete"]);
    let report = world.apply().await;
    assert!(matches!(
        &report.skipped[0].why,
        Why::Away {
            cause: "refused",
            ..
        }
    ));
    assert_eq!(report.deleted(), 11);
    assert_eq!(world.r2.names(), segments(11..41));
    assert_eq!(world.b2.names(), segments(0..41));
    assert_eq!(report.tombstones, 0, "no row goes while an object is left");
    assert!(
        world
            .rows()
            .await
            .starts_with(&format!("{} EXPIRING b2:verified\n", segment(0)))
    );

    world.b2.break_down(&[]);
    let report = world.apply().await;
    assert_eq!((report.deleted(), report.tombstones), (11, 11));
    assert_eq!(world.b2.names(), segments(11..41));
    assert!(!world.rows().await.contains("EXPIRING"));
}

#[tokio::test]
async fn a_cloud_that_goes_away_in_the_middle_delays_nobody_else_and_is_not_asked_for_ever() {
    let mut world = World::one_a_day(60).await;
    world.b2.break_down(&["delete"]);
    let report = world.apply().await;
    assert_eq!(world.r2.names(), segments(31..61));
    let b2 = report
        .repositories
        .iter()
        .find(|r| r.repository.as_str() == "b2")
        .unwrap();
    assert_eq!((b2.deleted, b2.failed + b2.left), (0, 31));
    assert!(
        world.b2.deletes().len() < 12,
        "given up after a few failures"
    );
    assert!(b2.last_error.as_ref().unwrap().contains("HINT:"));
    let row = "SELECT c.state || ' ' || c.cause || ' ' || f.status FROM copies c JOIN wal_files f ON f.id = c.file_id \
                WHERE c.cause IS NOT NULL LIMIT 1";
    assert_eq!(world.value(row).await, "expiring refused EXPIRING");
    let event = "SELECT code FROM events";
    assert_eq!(world.value(event).await, "retention-incomplete");

    world.b2.break_down(&[]);
    let report = world.apply().await;
    assert_eq!((report.deleted(), report.tombstones), (31, 31));
    assert_eq!(world.b2.names(), segments(31..61));
}

#[tokio::test]
async fn a_cloud_whose_mark_cannot_be_written_loses_no_object() {
    let mut world = World::one_a_day(40).await;
    world.b2.break_down(&["put"]);
    let report = world.apply().await;
    assert_eq!(report.skipped.len(), 1);
    assert_eq!(world.b2.deletes(), Vec::<String>::new());
    assert_eq!(world.r2.names(), segments(11..41));
    world.b2.break_down(&[]);
    assert_eq!(world.apply().await.deleted(), 11);
    assert_eq!(world.value("SELECT count(*) FROM wal_files").await, "30");
}

#[tokio::test]
async fn a_run_that_is_killed_in_the_middle_is_finished_by_the_next_one() {
    let mut world = World::one_a_day(40).await;
    world.b2.close_gate();
    world.b2.let_through(2);
    {
        let retention = world.retention();
        let run = retention.apply(&world.cluster, Consent::Automatic);
        tokio::select! {
            report = run => panic!("the gate is open: {:?}", report.map(|r| r.to_string())),
            // Two went through, four wait at the gate: dropped here, with requests in flight.
            () = world.b2.wait_for_deletes(6) => {}
        }
    }
    let rows = world.rows().await;
    assert!(rows.contains("EXPIRING"), "{rows}");
    assert_eq!(world.b2.names().len(), 39);
    // Until its lease ends it may be alive for all the next one knows.
    let refusals = world.refusals().await;
    assert!(
        matches!(refusals[..], [Refusal::AnotherRun { .. }]),
        "{refusals:?}"
    );

    world.b2.let_through(1000);
    world.apply_at_once().await;
    for bucket in [&world.r2, &world.b2] {
        assert_eq!(bucket.names(), segments(11..41));
    }
    assert_eq!(world.value("SELECT count(*) FROM wal_files").await, "30");
    assert_eq!(world.value("SELECT count(*) FROM tombstones").await, "11");
}

#[tokio::test]
async fn a_row_that_lost_its_last_copy_in_a_crash_becomes_a_tombstone() {
    let mut world = World::one_a_day(3).await;
    world.archived(&segment(90), 80).await;
    world
        .sql(&format!(
            "UPDATE wal_files SET status = 'EXPIRING', due_at = NULL WHERE name = '{0}'; \
             DELETE FROM copies c USING wal_files f WHERE f.id = c.file_id AND f.name = '{0}'",
            segment(90)
        ))
        .await;
    for bucket in [&world.r2, &world.b2] {
        bucket.remove(&format!("wal/{}.gz", segment(90)));
    }
    let report = world.apply().await;
    assert_eq!((report.deleted(), report.tombstones), (0, 1));
    assert_eq!(
        world.value("SELECT name FROM tombstones").await,
        segment(90)
    );
}

#[tokio::test]
async fn a_run_that_was_taken_over_deletes_nothing_more() {
    let world = World::one_a_day(40).await;
    world.r2.close_gate();
    let retention = world.retention();
    let frozen = retention.apply(&world.cluster, Consent::Automatic);
    let newer = async {
        world.r2.wait_for_deletes(4).await;
        // The newer run waits at the same gate, behind the four of the frozen one.
        let newer = world.retention().with_lease(Duration::ZERO);
        let newer = newer.apply(&world.cluster, Consent::Automatic);
        let release = async {
            world.r2.wait_for_deletes(8).await;
            world.r2.let_through(1000);
        };
        tokio::join!(newer, release).0.unwrap()
    };
    let (frozen, newer) = tokio::join!(frozen, newer);
    let frozen = frozen.unwrap();
    assert!(matches!(frozen.outcome, Outcome::Stopped), "{frozen}");
    let r2 = frozen
        .repositories
        .iter()
        .find(|r| r.repository.as_str() == "r2")
        .unwrap();
    assert_eq!(r2.deleted, 4, "what was on the wire, and no more");
    assert!(matches!(newer.outcome, Outcome::Done), "{newer}");
    assert_eq!(world.r2.names(), segments(11..41));
    assert_eq!(world.b2.names(), segments(11..41));
}

#[tokio::test]
async fn a_hold_set_during_a_run_stops_it_before_the_next_object() {
    let mut world = World::one_a_day(60).await;
    world.r2.close_gate();
    world.b2.close_gate();
    let retention = world.retention();
    let cluster = world.cluster.clone();
    let run = retention.apply(&cluster, Consent::Automatic);
    let (r2, b2) = (world.r2.clone(), world.b2.clone());
    let conn = &mut world.conn;
    let hold = async {
        r2.wait_for_deletes(4).await;
        b2.wait_for_deletes(4).await;
        holds::hold(conn, None, "stop", "ann").await.unwrap();
        r2.let_through(1000);
        b2.let_through(1000);
    };
    let (report, ()) = tokio::join!(run, hold);
    let report = report.unwrap();
    assert!(matches!(report.outcome, Outcome::Stopped), "{report}");
    assert_eq!(report.deleted(), 8, "four were on the wire in each");
    assert_eq!(world.r2.names().len(), 57);
}

#[tokio::test]
async fn two_runs_at_the_same_time_are_one_run_and_one_refusal() {
    let world = World::one_a_day(40).await;
    let retention = world.retention();
    let (one, two) = tokio::join!(
        retention.apply(&world.cluster, Consent::Automatic),
        retention.apply(&world.cluster, Consent::Automatic)
    );
    let reports = [one.unwrap(), two.unwrap()];
    let refused = reports
        .iter()
        .filter(|r| matches!(r.outcome, Outcome::Refused(_)));
    assert_eq!(refused.count(), 1);
    assert_eq!(reports.iter().map(|r| r.deleted()).sum::<u64>(), 22);
    assert_eq!(
        world.r2.deletes().len(),
        11,
        "no object was asked for twice"
    );
}

#[tokio::test]
async fn a_run_that_was_stopped_is_over_and_the_next_one_goes_on_at_once() {
    let mut world = World::one_a_day(40).await;
    world.r2.close_gate();
    let retention = world.retention();
    let cluster = world.cluster.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn(async move {
        let stop = async { stopped.await.unwrap() };
        let report = retention.apply_until(&cluster, Consent::Automatic, stop);
        report.await.unwrap().is_none()
    });
    world.r2.wait_for_deletes(1).await;
    stop.send(()).unwrap();
    assert!(run.await.unwrap(), "it was stopped");
    let open = "SELECT count(*) FROM retention_runs WHERE finished_at IS NULL";
    assert_eq!(world.value(open).await, "0");
    world.r2.let_through(100);
    let next = world.apply().await;
    assert!(matches!(next.outcome, Outcome::Done), "{next}");
    assert_eq!(world.r2.names(), segments(11..41));
    assert_eq!(world.b2.names(), segments(11..41));
}
