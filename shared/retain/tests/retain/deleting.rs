//! What a run deletes, and what it leaves.

use std::sync::Arc;

use walferry_catalog::clusters;
use walferry_catalog::retention::{self, Begun, Started};
use walferry_proof::RepositoryName;
use walferry_retain::{Outcome, Why};
use walferry_store::Repository;
use walferry_wal::{SegmentSize, SystemId};

use crate::world::{World, label, repository, segment, segments};

#[tokio::test]
async fn what_is_older_than_the_window_is_deleted_by_exact_key_from_both_repositories() {
    let mut world = World::one_a_day(40).await;
    // Neighbours that a delete by prefix would take along.
    let neighbour = format!("wal/{}.gz.note", segment(1));
    world.r2.insert(&neighbour, 3);
    world.archived("00000002.history", 400).await;

    let report = world.apply().await;
    assert!(matches!(report.outcome, Outcome::Done), "{report}");
    // 30 days and a minute ago is number 10: one too old.
    let keys: Vec<String> = segments(0..11)
        .iter()
        .map(|s| format!("wal/{s}.gz"))
        .collect();
    for bucket in [&world.r2, &world.b2] {
        let mut deleted = bucket.deletes();
        deleted.sort();
        assert_eq!(deleted, keys);
        let mut left = segments(11..41);
        left.push("00000002.history".to_owned());
        left.sort();
        assert_eq!(bucket.names(), left);
    }
    assert!(world.r2.keys().contains(&neighbour));
    assert_eq!(report.deleted(), 22);
    assert_eq!(report.tombstones, 11);
    assert_eq!(world.value("SELECT count(*) FROM wal_files").await, "31");
    let tombstones = "SELECT string_agg(name || ' ' || (reason LIKE '%older than 30 days%')::text, ',' ORDER BY name) \
                        FROM tombstones WHERE sha256 = sha256(name::bytea)";
    let names: Vec<String> = segments(0..11)
        .iter()
        .map(|s| format!("{s} true"))
        .collect();
    assert_eq!(world.value(tombstones).await, names.join(","));

    let again = world.apply().await;
    assert_eq!((again.planned(), again.deleted()), (0, 0));
}

#[tokio::test]
async fn a_base_backup_known_from_its_label_keeps_what_recovery_needs() {
    let mut world = World::one_a_day(40).await;
    world.archived(&label(4), 36).await;
    world.archived(&label(2), 38).await;
    let report = world.apply().await;
    assert!(report.window_proven());
    let mut left = segments(4..41);
    left.push(label(4));
    left.sort();
    assert_eq!(world.r2.names(), left);
    assert_eq!(world.b2.names(), left);
    // The older label went with its segments, and its row with it.
    assert_eq!(world.value("SELECT count(*) FROM labels").await, "1");
    let proven =
        "SELECT window_proven::text || ' ' || deleted FROM retention_runs ORDER BY id DESC LIMIT 1";
    assert_eq!(world.value(proven).await, "true 10");
}

#[tokio::test]
async fn without_a_base_the_run_says_that_the_window_is_not_proven() {
    let mut world = World::one_a_day(40).await;
    let report = world.apply().await;
    assert!(!report.window_proven());
    let said = report.prefixes[0].plan.warnings[0].to_string();
    assert!(said.contains("NOT PROVEN"), "{said}");
    let run = retention::last_run(&mut world.conn, world.cluster.id)
        .await
        .unwrap()
        .unwrap();
    assert!(!run.window_proven && run.finished_at.is_some());
    assert_eq!((run.planned, run.deleted, run.failed), (22, 22, 0));
}

#[tokio::test]
async fn a_file_missing_in_a_required_repository_is_not_deleted_from_the_other() {
    let mut world = World::one_a_day(3).await;
    world.archived_in(&segment(90), 80, &["r2"]).await;
    world.apply().await;
    assert!(world.r2.names().contains(&segment(90)));
    assert!(world.r2.deletes().is_empty());
}

#[tokio::test]
async fn every_version_of_an_object_goes_and_is_counted() {
    let mut world = World::one_a_day(3).await;
    world.archived(&segment(90), 80).await;
    world.b2.insert(&format!("wal/{}.gz", segment(90)), 9);
    let report = world.apply().await;
    let versions: Vec<(String, u64, u64)> = report
        .repositories
        .iter()
        .map(|r| (r.repository.to_string(), r.deleted, r.versions))
        .collect();
    assert_eq!(versions, [("r2".to_owned(), 1, 1), ("b2".to_owned(), 1, 2)]);
}

#[tokio::test]
async fn copies_in_a_repository_that_is_not_configured_stay_known() {
    let mut world = World::one_a_day(31).await;
    let only_r2: Vec<Arc<dyn Repository>> = vec![world.r2.clone()];
    let retention = world.retention_with(only_r2);
    let report = retention
        .apply(&world.cluster, walferry_retain::Consent::Yes)
        .await
        .unwrap();
    assert_eq!(report.skipped[0].why, Why::NotConfigured);
    assert_eq!(report.skipped[0].repository, repository("b2"));
    assert_eq!(world.b2.names(), segments(0..32));
    assert_eq!(world.r2.names(), segments(2..32));
    assert!(
        world
            .rows()
            .await
            .starts_with(&format!("{} EXPIRING b2:verified", segment(0)))
    );
}

#[tokio::test]
async fn a_preview_tells_the_plan_and_changes_nothing() {
    let mut world = World::one_a_day(40).await;
    let before = (world.rows().await, world.r2.keys(), world.b2.keys());
    let retention = world.retention();
    let preview = retention.preview(&world.cluster).await.unwrap();
    assert_eq!(preview.prefixes[0].plan.copies(), 22);
    assert!(preview.refusals.is_empty() && !preview.window_proven());
    assert_eq!(
        before,
        (world.rows().await, world.r2.keys(), world.b2.keys())
    );
    assert_eq!(
        world.value("SELECT count(*) FROM retention_runs").await,
        "0"
    );
    assert_eq!(world.value("SELECT epoch FROM catalog_identity").await, "1");
}

/// Asks the catalog to begin the expiry of one file in both repositories; whether it did.
async fn begins(world: &mut World, name: &str) -> bool {
    let started =
        retention::start_run(&mut world.conn, world.cluster.id, std::time::Duration::ZERO);
    let Started::Run(run) = started.await.unwrap() else {
        panic!("another run is alive");
    };
    let prefix = world.prefix();
    let rows = retention::files(&mut world.conn, prefix, None, 1000)
        .await
        .unwrap();
    let row = rows
        .iter()
        .find(|row| row.file.to_string() == name)
        .unwrap()
        .id;
    let copies: Vec<(_, RepositoryName)> = ["r2", "b2"]
        .iter()
        .map(|name| (row, repository(name)))
        .collect();
    match retention::begin_expiry(&mut world.conn, run, &copies)
        .await
        .unwrap()
    {
        Begun::Files(files) => files == [row],
        Begun::Stopped => panic!("stopped"),
    }
}

#[tokio::test]
async fn the_catalog_itself_expires_no_history_and_nothing_that_is_worked_on() {
    let mut world = World::one_a_day(1).await;
    world.archived("00000002.history", 400).await;
    world.archived_in(&segment(90), 80, &["r2"]).await;
    assert!(begins(&mut world, &segment(0)).await);
    assert!(
        begins(&mut world, &segment(0)).await,
        "a second time as well"
    );
    assert!(!begins(&mut world, "00000002.history").await);
    assert!(!begins(&mut world, &segment(90)).await, "not VERIFIED");
    world
        .sql("UPDATE wal_files SET claimed_by = 'w', lease_until = clock_timestamp() + interval '1 h', \
                     due_at = clock_timestamp() WHERE status = 'VERIFIED'")
        .await;
    assert!(!begins(&mut world, &segment(1)).await, "claimed");
}

#[tokio::test]
async fn a_file_that_was_handed_over_again_is_not_deleted() {
    let mut world = World::one_a_day(40).await;
    world
        .sql("INSERT INTO directories (cluster_id, name, path) SELECT id, 'main', '/archive' FROM clusters; \
              INSERT INTO local_files (file_id, directory_id, dev, ino, size, mtime_ns) \
              SELECT f.id, d.id, 1, 1, 1, 1 FROM wal_files f, directories d WHERE f.name LIKE '%00000003'")
        .await;
    assert!(!begins(&mut world, &segment(3)).await);
    world.apply_at_once().await;
    assert_eq!(world.r2.names()[0], segment(3));
    assert_eq!(world.r2.names()[1], segment(11));
}

/// `cluster upgrade` leaves the old prefix restorable, however old all of it is.
#[tokio::test]
async fn a_closed_prefix_keeps_its_newest_base_and_what_that_needs() {
    let mut world = World::new().await;
    for number in 0..=40 {
        world
            .archived(&segment(number), 140 - i64::from(number))
            .await;
    }
    world.archived(&label(4), 136).await;
    let next = "wal-16/".parse().unwrap();
    let next = clusters::open_next_prefix(&mut world.conn, world.cluster.id, &next)
        .await
        .unwrap();
    let (system, size) = (SystemId::new(8), SegmentSize::DEFAULT);
    clusters::set_identity(&mut world.conn, next.id, system, size)
        .await
        .unwrap();
    world.cluster = clusters::clusters(&mut world.conn).await.unwrap().remove(0);
    let mut all = segments(0..41);
    all.push(label(4));
    all.sort();
    assert_eq!(world.r2.names(), all);

    assert_eq!(world.apply().await.deleted(), 8);
    let mut left = segments(4..41);
    left.push(label(4));
    left.sort();
    assert_eq!(world.r2.names(), left);
    assert_eq!(world.b2.names(), left);
}
