//! A catalog that does not know what the buckets hold deletes nothing.

use std::collections::HashSet;

use walferry_proof::ObjectKey;
use walferry_retain::{CatalogMark, Difference, Refusal, Repaired, Untrusted, compare, repair};
use walferry_wal::WalFile;

use crate::world::{World, days_ago, repository, segment, segments};

const MARK: &str = "wal/walferry-catalog.json";

/// The comparison that the run refused for.
async fn differs(world: &World) -> (Untrusted, Vec<Difference>, String) {
    let mut refusals = world.refusals().await;
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(world.r2.deletes(), Vec::<String>::new());
    assert_eq!(world.b2.deletes(), Vec::<String>::new());
    let said = refusals[0].to_string();
    match refusals.remove(0) {
        Refusal::Differs { why, comparison } => (why, comparison.differences, said),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_new_catalog_is_compared_and_its_mark_is_set_before_it_may_delete() {
    let mut world = World::one_a_day(40).await;
    let report = world.apply().await;
    assert_eq!(report.prefixes[0].compared.len(), 2);
    assert_eq!(report.prefixes[0].compared[0].objects, 41);
    assert_eq!(report.deleted(), 22);
    let id = world.value("SELECT id FROM catalog_identity").await;
    let epoch = world.value("SELECT epoch FROM catalog_identity").await;
    for bucket in [&world.r2, &world.b2] {
        let mark = bucket.text(MARK);
        assert!(
            mark.contains(&id) && mark.contains(&format!("\"epoch\": {epoch}")),
            "{mark}"
        );
    }
    assert_eq!(
        world.value("SELECT count(*) FROM compared_marks").await,
        "2"
    );
    // From now on it is trusted, and an unknown object is none of retention's business.
    world.r2.insert(&format!("wal/{}.gz", segment(500)), 9);
    let again = world.apply().await;
    assert!(again.prefixes[0].compared.is_empty());
}

#[tokio::test]
async fn an_object_that_the_catalog_never_heard_of_refuses_with_its_name() {
    let world = World::one_a_day(40).await;
    world.b2.insert(&format!("wal/{}.gz", segment(99)), 5);
    let (why, differences, said) = differs(&world).await;
    assert_eq!(why, Untrusted::NoMark);
    let key = format!("wal/{}.gz", segment(99)).parse().unwrap();
    assert_eq!(differences, [Difference::Unknown { key, size: 5 }]);
    assert!(
        said.contains(&segment(99)) && said.contains("walferry import"),
        "{said}"
    );
    assert_eq!(world.r2.names(), segments(0..41));
    // No mark is set while they differ.
    assert!(!world.r2.keys().contains(&MARK.to_owned()));
}

#[tokio::test]
async fn objects_that_are_no_wal_and_files_under_way_are_no_difference() {
    let mut world = World::one_a_day(40).await;
    world.r2.insert("wal/README.txt", 5);
    world.r2.insert("wal/walferry-owner.json", 5);
    // Registered, one copy stored and the other not: the archiver is at work.
    world.archived_in(&segment(77), 0, &["r2"]).await;
    world.b2.insert(&format!("wal/{}.gz", segment(77)), 4);
    assert_eq!(world.apply().await.deleted(), 22);
}

#[tokio::test]
async fn a_catalog_restored_from_the_past_refuses_what_is_missing_and_goes_on_when_nothing_is() {
    let mut world = World::one_a_day(40).await;
    world.apply().await;
    // Restored: the rows of what was deleted are back, and so is the epoch.
    world
        .sql("UPDATE catalog_identity SET epoch = 1; UPDATE compared_marks SET epoch = 1")
        .await;
    world.archived(&segment(3), 37).await;
    world.b2.remove(&format!("wal/{}.gz", segment(3)));
    let deletes = world.b2.deletes().len();
    let refusals = world.refusals().await;
    let [Refusal::Differs { why, comparison }] = &refusals[..] else {
        panic!("{refusals:?}");
    };
    assert!(
        matches!(
            why,
            Untrusted::Restored {
                bucket: 2,
                catalog: 1
            }
        ),
        "{why:?}"
    );
    let key = format!("wal/{}.gz", segment(3)).parse().unwrap();
    assert_eq!(comparison.differences, [Difference::Missing { key }]);
    assert_eq!(world.b2.deletes().len(), deletes);

    world.b2.insert(&format!("wal/{}.gz", segment(3)), 9);
    assert_eq!(world.apply().await.deleted(), 2);
    assert_eq!(world.value("SELECT epoch FROM catalog_identity").await, "3");
    assert!(world.b2.text(MARK).contains("\"epoch\": 3"));
}

#[tokio::test]
async fn another_catalog_s_mark_makes_a_comparison_necessary() {
    let mut world = World::one_a_day(40).await;
    world.apply().await;
    world
        .sql("UPDATE catalog_identity SET id = gen_random_uuid()")
        .await;
    world.r2.insert(&format!("wal/{}.gz", segment(99)), 5);
    let refusals = world.refusals().await;
    assert!(matches!(
        &refusals[..],
        [Refusal::Differs { why: Untrusted::OtherCatalog { .. }, comparison }] if comparison.total == 1
    ));
}

#[tokio::test]
async fn an_object_of_another_size_is_a_difference() {
    let world = World::one_a_day(40).await;
    world.r2.remove(&format!("wal/{}.gz", segment(20)));
    world.r2.insert(&format!("wal/{}.gz", segment(20)), 8);
    let (_, differences, _) = differs(&world).await;
    assert!(matches!(
        differences[..],
        [Difference::Size {
            recorded: 9,
            found: 8,
            ..
        }]
    ));
}

#[tokio::test]
async fn a_mark_that_nobody_can_read_refuses() {
    let world = World::one_a_day(40).await;
    world.r2.insert(MARK, 100);
    let refusals = world.refusals().await;
    assert!(
        matches!(refusals[..], [Refusal::Mark { .. }]),
        "{refusals:?}"
    );
    let read = CatalogMark::read(world.r2.as_ref(), &"wal/".parse().unwrap()).await;
    assert!(read.is_err());
}

#[tokio::test]
async fn after_a_restore_what_retention_had_deleted_is_forgotten_and_the_rest_is_due_or_lost() {
    let mut world = World::one_a_day(40).await;
    let gone = |number| format!("wal/{}.gz", segment(number));
    // 3 went with an earlier run, 20 is missing in b2 only, 21 is nowhere and young.
    for number in [3, 21] {
        world.r2.remove(&gone(number));
        world.b2.remove(&gone(number));
    }
    world.b2.remove(&gone(20));
    let prefix = world.cluster.prefix.clone();
    let before = days_ago(30);
    let mut all = Vec::new();
    for bucket in [world.r2.clone(), world.b2.clone()] {
        let comparison = compare(&world.catalog, &prefix, bucket.as_ref())
            .await
            .unwrap();
        let repaired = repair(
            &world.catalog,
            &prefix,
            bucket.as_ref(),
            &comparison,
            before,
        );
        all.push(repaired.await.unwrap());
    }
    let lost: Vec<WalFile> = vec![segment(21).parse().unwrap()];
    // For r2 alone 3 and 21 can still be in b2.
    let r2 = Repaired {
        due: 2,
        ..Repaired::default()
    };
    let b2 = Repaired {
        due: 1,
        forgotten: 1,
        lost,
        untouched: 0,
    };
    assert_eq!(all, [r2, b2]);
    assert_eq!(
        world
            .value("SELECT string_agg(name, ',') FROM tombstones")
            .await,
        segment(3)
    );
    let rows = world.rows().await;
    assert!(
        rows.contains(&format!("{} PENDING b2:due r2:verified", segment(20))),
        "{rows}"
    );
    assert!(
        rows.contains(&format!("{} PENDING b2:due r2:due", segment(21))),
        "{rows}"
    );
    let event = "SELECT severity || ' ' || code FROM events";
    assert_eq!(world.value(event).await, "critical segment-lost");
    // Rows and objects agree now, so that retention acts again.
    assert_eq!(world.apply().await.deleted(), 20);
}

#[tokio::test]
async fn an_object_that_is_there_after_all_is_not_taken_back() {
    let mut world = World::one_a_day(3).await;
    let prefix = world.cluster.prefix.clone();
    let key = format!("wal/{}.gz", segment(2));
    world.r2.remove(&key);
    let comparison = compare(&world.catalog, &prefix, world.r2.as_ref())
        .await
        .unwrap();
    assert_eq!(comparison.missing.len(), 1);
    world.r2.insert(&key, 9);
    let repaired = repair(
        &world.catalog,
        &prefix,
        world.r2.as_ref(),
        &comparison,
        days_ago(30),
    );
    assert_eq!(repaired.await.unwrap().untouched, 1);
    assert!(!world.rows().await.contains("due"));
}

#[tokio::test]
async fn what_an_import_left_is_accepted_and_nothing_else() {
    let mut world = World::one_a_day(40).await;
    let key: ObjectKey = format!("wal/{}.gz", segment(99)).parse().unwrap();
    world.b2.insert(key.as_str(), 5);
    differs(&world).await;

    // A person was told of an object of that name in the other repository only.
    let r2 = HashSet::from([(repository("r2"), key.clone())]);
    let untold = world
        .retention()
        .reconcile(&world.cluster, &r2)
        .await
        .unwrap();
    let untold: Vec<bool> = untold.iter().map(|one| one.differs.is_some()).collect();
    assert_eq!(untold, [false, true]);
    assert!(!world.b2.keys().contains(&MARK.to_owned()));
    differs(&world).await;

    let b2 = HashSet::from([(repository("b2"), key)]);
    let told = world
        .retention()
        .reconcile(&world.cluster, &b2)
        .await
        .unwrap();
    assert!(told.iter().all(|one| one.differs.is_none()), "{told:?}");
    assert_eq!(world.apply().await.deleted(), 22);
    assert!(world.b2.names().contains(&segment(99)), "it stays as it is");
    let outcomes = "SELECT string_agg(DISTINCT outcome, ',') FROM retention_runs \
                     WHERE outcome LIKE 'import%' AND finished_at IS NOT NULL";
    assert_eq!(
        world.value(outcomes).await,
        "import: compared,import: rows and objects still differ"
    );
}

#[tokio::test]
async fn a_bucket_that_was_away_when_a_restored_catalog_acted_is_compared_when_it_is_back() {
    let mut world = World::one_a_day(40).await;
    world.apply().await;
    world
        .sql("UPDATE catalog_identity SET epoch = 1; UPDATE compared_marks SET epoch = 1")
        .await;
    let key = format!("wal/{}.gz", segment(39));
    world.b2.remove(&key);
    world.b2.break_down(&["clock"]);
    // r2 is compared, found equal, and the epoch rises above what b2 has seen.
    world.apply().await;
    assert_eq!(world.value("SELECT epoch FROM catalog_identity").await, "3");
    world.b2.break_down(&[]);
    let refusals = world.refusals().await;
    let [Refusal::Differs { why, comparison }] = &refusals[..] else {
        panic!("{refusals:?}");
    };
    let restored = Untrusted::Restored {
        bucket: 2,
        catalog: 1,
    };
    assert_eq!(*why, restored);
    let key = key.parse().unwrap();
    assert_eq!(comparison.differences, [Difference::Missing { key }]);
}
