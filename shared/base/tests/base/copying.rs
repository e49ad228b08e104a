//! A base that one repository lacks, brought from the other.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use walferry_base::{Abandoned, Copied, CopyError, Taken, check, clean, copy, list, set_keep};
use walferry_layout::base::{CompleteBase, KeepMark};
use walferry_pack::pool::PackPool;
use walferry_store::Repository;

use crate::clouds::{
    Cloud, LABEL, copy_settings, facts_at, key, prefix, settings, taken, two_with_a_base,
};
use crate::odd::{Act, Odd};
use crate::script::{Script, plain};

async fn copied(base: &CompleteBase, from: &Cloud, to: &Cloud) -> Result<Copied, CopyError> {
    let cancel = CancellationToken::new();
    copy(
        base,
        &prefix(),
        &*from.repository,
        &*to.repository,
        &copy_settings(),
        &cancel,
    )
    .await
}

/// A base that is complete in the first and broke off in the second.
async fn one_was_dropped() -> (Cloud, Cloud, Taken) {
    let (r2, b2) = (Cloud::start("r2").await, Cloud::start("b2").await);
    let odd = Odd::new(&b2.repository, |call| match call.name.as_str() {
        "base.tar/00003.gz" => Act::Denied,
        _ => Act::Pass,
    });
    let both: [Arc<dyn Repository>; 2] = [Arc::clone(&r2.repository), odd];
    let taken = taken(Script::usual(), &both).await.unwrap();
    assert_eq!(taken.dropped.len(), 1);
    (r2, b2, taken)
}

#[tokio::test]
async fn the_repository_that_was_dropped_gets_it_from_the_other() {
    let (r2, b2, taken) = one_was_dropped().await;
    let result = copied(&taken.base, &r2, &b2).await.unwrap();
    // What was stored before it was dropped is not sent again.
    assert!(result.slices >= 1, "{result:?}");
    assert_eq!(result.slices + result.found, 8);
    assert_eq!(b2.keys().await, r2.keys().await);
    for (archive, plain) in plain() {
        assert!(b2.archive(archive).await == plain, "{archive}");
    }
    let pool = PackPool::start(1).unwrap();
    let faults = check(&taken.base, &prefix(), &*b2.repository, &pool).await;
    assert_eq!(faults.unwrap(), []);
    let lists = [&r2, &b2].map(|cloud| Arc::clone(&cloud.repository));
    let [first, second] = lists;
    assert_eq!(
        list(&*first, &prefix()).await.unwrap(),
        list(&*second, &prefix()).await.unwrap()
    );
    // Again: there is nothing to do.
    let again = copied(&taken.base, &r2, &b2).await.unwrap();
    assert_eq!(again, Copied::default());
}

#[tokio::test]
async fn a_repository_that_knows_nothing_of_it_gets_all_of_it_and_its_mark() {
    let (r2, _, taken) = two_with_a_base().await;
    let mark = KeepMark { until: None };
    set_keep(&*r2.repository, &prefix(), taken.base.label, Some(mark))
        .await
        .unwrap();
    let other = Cloud::start("c3").await;
    let result = copied(&taken.base, &r2, &other).await.unwrap();
    assert_eq!((result.slices, result.found), (8, 0));
    assert_eq!(result.stored_size, taken.base.stored_size());
    let found = list(&*other.repository, &prefix()).await.unwrap();
    assert_eq!(found[0].keep, Some(KeepMark { until: None }));
    assert_eq!(other.keys().await, r2.keys().await);
}

#[tokio::test]
async fn a_damaged_or_missing_slice_is_not_copied_and_the_base_not_complete() {
    for damage in [Some(b"damaged".as_slice()), None] {
        let (r2, b2, taken) = one_was_dropped().await;
        let name = format!("{LABEL}/base.tar/00003.gz");
        match damage {
            Some(bytes) => r2.put(&name, bytes).await,
            None => r2.delete(&name).await,
        }
        let error = copied(&taken.base, &r2, &b2).await.unwrap_err();
        let right = match damage {
            Some(_) => matches!(error, CopyError::Damaged { .. }),
            None => matches!(error, CopyError::Missing { .. }),
        };
        assert!(right, "{error}");
        assert!(
            !b2.keys()
                .await
                .contains(&format!("base/{LABEL}/backup.json"))
        );
    }
}

#[tokio::test]
async fn a_damaged_manifest_is_not_copied() {
    let (r2, b2, taken) = one_was_dropped().await;
    r2.put(&format!("{LABEL}/backup_manifest.gz"), b"no gzip")
        .await;
    let error = copied(&taken.base, &r2, &b2).await.unwrap_err();
    assert!(matches!(error, CopyError::Damaged { .. }), "{error}");
    assert!(
        !b2.keys()
            .await
            .contains(&format!("base/{LABEL}/backup.json"))
    );
}

#[tokio::test]
async fn a_damaged_slice_that_lies_there_is_replaced() {
    let (r2, b2, taken) = one_was_dropped().await;
    b2.put(&format!("{LABEL}/base.tar/00000.gz"), b"damaged")
        .await;
    copied(&taken.base, &r2, &b2).await.unwrap();
    for (archive, plain) in plain() {
        assert!(b2.archive(archive).await == plain, "{archive}");
    }
}

#[tokio::test]
async fn a_copy_that_was_interrupted_goes_on_where_it_was() {
    let (r2, b2, taken) = two_with_a_base().await;
    let other = Cloud::start("c3").await;
    drop(b2);
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    let odd = Odd::new(&other.repository, move |call| {
        if call.operation == "put" && call.name == "base.tar/00004.gz" {
            token.cancel();
        }
        Act::Pass
    });
    let settings = walferry_base::CopySettings {
        transfers: 1,
        ..copy_settings()
    };
    let cut = copy(
        &taken.base,
        &prefix(),
        &*r2.repository,
        &*odd,
        &settings,
        &cancel,
    )
    .await;
    assert!(matches!(cut, Err(CopyError::Cancelled)), "{cut:?}");
    let result = copied(&taken.base, &r2, &other).await.unwrap();
    assert!(result.found >= 4, "{result:?}");
    assert_eq!(other.keys().await, r2.keys().await);
}

#[tokio::test]
async fn another_base_of_that_label_is_not_overwritten() {
    let (r2, b2) = (Cloud::start("r2").await, Cloud::start("b2").await);
    let one = taken(Script::usual(), &[Arc::clone(&r2.repository)])
        .await
        .unwrap();
    let facts = facts_at(one.base.started_at + TimeDelta::nanoseconds(1));
    let progress = tokio::sync::watch::Sender::default();
    let cancel = CancellationToken::new();
    let repositories = [Arc::clone(&b2.repository)];
    let settings = settings();
    let other = walferry_base::take(
        Script::usual(),
        facts,
        &repositories,
        &settings,
        &progress,
        &cancel,
    );
    let other = other.await.unwrap();
    let keys = b2.keys().await;
    let error = copied(&one.base, &r2, &b2).await.unwrap_err();
    assert!(matches!(error, CopyError::LabelTaken { .. }), "{error}");
    // The same while that one is not complete.
    b2.delete(&format!("{LABEL}/backup.json")).await;
    let error = copied(&one.base, &r2, &b2).await.unwrap_err();
    assert!(matches!(error, CopyError::LabelTaken { .. }), "{error}");
    b2.put(&format!("{LABEL}/backup.json"), &other.base.to_json())
        .await;
    assert_eq!(b2.keys().await, keys);
}

/// A base that waits to be completed is as old as an abandoned one.
#[tokio::test]
async fn cleaning_leaves_a_base_that_waits_to_be_copied_and_a_copy_notices_if_not() {
    let (r2, b2, taken) = one_was_dropped().await;
    let mut rule = Abandoned {
        older_than: TimeDelta::zero(),
        running: [taken.base.label].into(),
    };
    assert_eq!(clean(&*b2.repository, &prefix(), &rule).await.unwrap(), []);
    rule.running.clear();
    // The label of the tests may lie ahead of this machine's clock.
    rule.older_than = Utc::now() - taken.base.label.time() - TimeDelta::hours(1);
    let cleaned = clean(&*b2.repository, &prefix(), &rule).await.unwrap();
    assert_eq!(cleaned.len(), 1);
    copied(&taken.base, &r2, &b2).await.unwrap();
    assert_eq!(b2.keys().await, r2.keys().await);
    assert!(
        b2.repository
            .head(&key(&format!("{LABEL}/backup.json")))
            .await
            .unwrap()
            .is_some()
    );
}
