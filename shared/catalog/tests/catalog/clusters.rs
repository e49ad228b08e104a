use walferry_catalog::repositories::{BreakerState, Health};
use walferry_catalog::{CatalogError, clusters, intake, repositories};
use walferry_wal::{SegmentSize, SystemId};

use crate::world::{World, repository, segment};

const SIZE: SegmentSize = SegmentSize::DEFAULT;

#[tokio::test]
async fn another_system_cannot_archive_into_a_prefix() {
    let mut world = World::new().await;
    let (first, second) = (
        "7300000000000000001".parse().unwrap(),
        "18446744073709551615".parse().unwrap(),
    );
    clusters::set_identity(&mut world.conn, world.prefix, second, SIZE)
        .await
        .unwrap();
    clusters::set_identity(&mut world.conn, world.prefix, second, SIZE)
        .await
        .unwrap();
    let error = clusters::set_identity(&mut world.conn, world.prefix, first, SIZE)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, CatalogError::SystemMismatch { recorded, found, .. } if *recorded == second && *found == first)
    );
    assert!(error.hint().unwrap().contains("cluster upgrade"));
    let other = (1_u64 << 30).try_into().unwrap();
    let error = clusters::set_identity(&mut world.conn, world.prefix, second, other)
        .await
        .unwrap_err();
    assert!(matches!(error, CatalogError::SegmentSizeMismatch { .. }));
}

#[tokio::test]
async fn prefixes_never_overlap() {
    let mut world = World::new().await;
    for prefix in ["wal/", "wal/inner/"] {
        let error = clusters::ensure_cluster(&mut world.conn, "other", &prefix.parse().unwrap())
            .await
            .unwrap_err();
        assert!(
            matches!(&error, CatalogError::PrefixTaken { cluster, .. } if cluster == "main"),
            "{error:?}"
        );
    }
    assert_eq!(
        clusters::clusters(&mut world.conn).await.unwrap().len(),
        1,
        "a refused cluster is not made"
    );
    clusters::ensure_cluster(&mut world.conn, "other", &"wal2/".parse().unwrap())
        .await
        .unwrap();
    let error = clusters::ensure_cluster(&mut world.conn, "main", &"elsewhere/".parse().unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(error, CatalogError::PrefixDiffers { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_upgrade_opens_the_next_prefix_and_leaves_the_old_one_listed() {
    let mut world = World::new().await;
    world.archived(&[&segment(1)]).await;
    let next =
        clusters::open_next_prefix(&mut world.conn, world.cluster, &"wal-16/".parse().unwrap())
            .await
            .unwrap();
    assert_eq!(next.system_id, None);
    let again = clusters::ensure_cluster(&mut world.conn, "main", &"wal/".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(
        again.prefix.id, next.id,
        "the configuration still names the first one"
    );
    let all = clusters::prefixes(&mut world.conn, world.cluster)
        .await
        .unwrap();
    assert_eq!(all.len(), 2);
    assert!(all[0].closed_at.is_some() && all[1].closed_at.is_none());
    let back =
        clusters::open_next_prefix(&mut world.conn, world.cluster, &"wal/".parse().unwrap()).await;
    assert!(matches!(back, Err(CatalogError::PrefixTaken { .. })));
    assert_eq!(
        clusters::clusters(&mut world.conn).await.unwrap()[0]
            .prefix
            .id,
        next.id,
        "still open"
    );
    // The same name under the new system is another file.
    let file = world.found(&segment(1));
    let registered = intake::register(
        &mut world.conn,
        next.id,
        world.directory,
        &[file],
        &[repository("r2")],
    )
    .await
    .unwrap();
    assert_eq!(registered.new, 1);
}

#[tokio::test]
async fn the_next_prefix_is_not_given_to_the_system_before() {
    let mut world = World::new().await;
    let (old, new) = (SystemId::new(7), SystemId::new(8));
    let size = SegmentSize::DEFAULT;
    clusters::set_identity(&mut world.conn, world.prefix, old, size)
        .await
        .unwrap();
    let next = "wal-16/".parse().unwrap();
    let next = clusters::open_next_prefix(&mut world.conn, world.cluster, &next)
        .await
        .unwrap();
    let refused = clusters::set_identity(&mut world.conn, next.id, old, size).await;
    assert!(
        matches!(&refused, Err(CatalogError::SystemElsewhere { prefix, .. }) if prefix.as_str() == "wal/"),
        "{refused:?}"
    );
    clusters::set_identity(&mut world.conn, next.id, new, size)
        .await
        .unwrap();
    // The old one may still be confirmed in its own.
    clusters::set_identity(&mut world.conn, world.prefix, old, size)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_that_start_together_make_one_cluster() {
    let world = World::new().await;
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let catalog = world.catalog.clone();
            tokio::spawn(async move {
                let mut conn = catalog.get().await.unwrap();
                let cluster =
                    clusters::ensure_cluster(&mut conn, "second", &"second/".parse().unwrap())
                        .await
                        .unwrap();
                let directory = clusters::ensure_directory(&mut conn, cluster.id, "d", "/d")
                    .await
                    .unwrap();
                (cluster.id, cluster.prefix.id, directory)
            })
        })
        .collect();
    let mut seen = std::collections::HashSet::new();
    for task in tasks {
        seen.insert(task.await.unwrap());
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[tokio::test]
async fn a_breakers_state_is_dated_by_its_change_not_by_its_last_report() {
    let mut world = World::new().await;
    let b2 = repository("b2");
    let open = Health {
        state: BreakerState::Open,
        cause: Some("refused".to_owned()),
        last_error: Some("connection refused".to_owned()),
        succeeded: false,
        failed: true,
        sure: true,
    };
    repositories::report_health(&mut world.conn, &b2, &open)
        .await
        .unwrap();
    let since = repositories::list(&mut world.conn).await.unwrap()[0].since;
    assert!(since.is_some());
    repositories::report_health(&mut world.conn, &b2, &open)
        .await
        .unwrap();
    let row = repositories::list(&mut world.conn).await.unwrap().remove(0);
    assert_eq!(
        (row.state, row.since, row.cause.as_deref()),
        (BreakerState::Open, since, Some("refused"))
    );
    let closed = Health {
        state: BreakerState::Closed,
        cause: None,
        last_error: None,
        succeeded: true,
        failed: false,
        sure: false,
    };
    repositories::report_health(&mut world.conn, &b2, &closed)
        .await
        .unwrap();
    let row = repositories::list(&mut world.conn).await.unwrap().remove(0);
    assert_eq!(
        (row.state, row.since),
        (BreakerState::Open, since),
        "a worker that has asked for nothing hides nobody's trouble"
    );
    let closed = Health {
        sure: true,
        ..closed
    };
    repositories::report_health(&mut world.conn, &b2, &closed)
        .await
        .unwrap();
    let row = repositories::list(&mut world.conn).await.unwrap().remove(0);
    assert!(row.since > since && row.last_success_at.is_some());
    assert_eq!(
        row.last_error.as_deref(),
        Some("connection refused"),
        "the last error stays readable"
    );
}

#[tokio::test]
async fn a_retired_repository_is_waited_for_no_longer() {
    let mut world = World::new().await;
    world.register_segments(2).await;
    let claim = world.claim_one("w").await;
    world.pack(&claim).await;
    let proofs = vec![crate::world::proof(&claim, "r2")];
    let _ = walferry_catalog::completion::complete(
        &mut world.conn,
        claim.token,
        proofs,
        Vec::new(),
        walferry_catalog::Enough::AllRequired,
    )
    .await
    .unwrap();
    assert_eq!(
        repositories::retire(&mut world.conn, &repository("b2"))
            .await
            .unwrap(),
        1
    );
    assert_eq!(world.status(&segment(1)).await, "VERIFIED");
    assert_eq!(
        world.status(&segment(2)).await,
        "PENDING",
        "it is in no cloud at all"
    );
}
