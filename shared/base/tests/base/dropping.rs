//! Repositories that fail: dropped, while the others go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use walferry_base::{
    BaseState, DropReason, Dropped, TakeError, TakeSettings, UploadError, check, list,
};
use walferry_pack::pool::PackPool;
use walferry_store::Repository;

use crate::clouds::{Cloud, LABEL, prefix, settings, taken, taken_with};
use crate::odd::{Act, Call, Odd};
use crate::script::{Script, plain};

/// Slices that are put for the first time, in their order.
fn is_slice(call: &Call) -> bool {
    call.operation == "put" && call.name.contains(".tar/")
}

async fn assert_complete(cloud: &Cloud, base: &walferry_layout::base::CompleteBase) {
    for (archive, plain) in plain() {
        assert!(cloud.archive(archive).await == plain, "{archive}");
    }
    let pool = PackPool::start(1).unwrap();
    let faults = check(base, &prefix(), &*cloud.repository, &pool).await;
    assert_eq!(faults.unwrap(), []);
}

async fn is_complete(cloud: &Cloud) -> bool {
    let complete = format!("base/{LABEL}/backup.json");
    cloud.keys().await.contains(&complete)
}

/// A base for a cloud that works and one that does as `rule` says; what became of the latter.
async fn with_one_odd(
    settings: &TakeSettings,
    rule: impl Fn(&Call) -> Act + Send + Sync + 'static,
) -> (Cloud, Dropped) {
    let (r2, b2) = (Cloud::start("r2").await, Cloud::start("b2").await);
    let odd = Odd::new(&b2.repository, rule);
    let both: [Arc<dyn Repository>; 2] = [odd, Arc::clone(&r2.repository)];
    let mut taken = taken_with(Script::usual(), &both, settings).await.unwrap();
    let complete: Vec<_> = taken.complete_in.iter().map(|name| name.as_str()).collect();
    assert_eq!(complete, ["r2"]);
    assert_complete(&r2, &taken.base).await;
    assert!(!is_complete(&b2).await);
    let dropped = taken.dropped.remove(0);
    assert!(taken.dropped.is_empty());
    assert_eq!(dropped.repository.as_str(), "b2");
    (b2, dropped)
}

#[tokio::test]
async fn one_that_refuses_everything_is_dropped() {
    let (b2, dropped) = with_one_odd(&settings(), |_| Act::Denied).await;
    assert!(
        matches!(dropped.reason, DropReason::Upload(UploadError::Store(_))),
        "{dropped}"
    );
    assert_eq!(b2.keys().await, [""; 0]);
}

#[tokio::test]
async fn one_that_fails_in_the_middle_is_dropped_and_keeps_what_it_has() {
    let (b2, dropped) = with_one_odd(&settings(), |call| match call.name.as_str() {
        name if name.ends_with("base.tar/00002.gz") => Act::Denied,
        _ => Act::Pass,
    })
    .await;
    assert!(
        matches!(dropped.reason, DropReason::Upload(UploadError::Store(_))),
        "{dropped}"
    );
    assert!(dropped.to_string().contains("00002.gz"), "{dropped}");
    let found = list(&*b2.repository, &prefix()).await.unwrap();
    assert!(matches!(found[0].state, BaseState::Begun(_)), "{found:?}");
}

#[tokio::test]
async fn one_that_stalls_is_dropped_and_holds_the_others_up_no_longer() {
    let settings = TakeSettings {
        stall: Duration::from_secs(5),
        // Not even two slices: without being dropped it would hold up the base for ever.
        memory_limit: Some(1),
        ..settings()
    };
    let before = Instant::now();
    let (_b2, dropped) = with_one_odd(&settings, |call| match is_slice(call) {
        true => Act::Hang,
        false => Act::Pass,
    })
    .await;
    assert!(
        matches!(dropped.reason, DropReason::Stalled(_)),
        "{dropped}"
    );
    assert!(before.elapsed() >= Duration::from_secs(5));
}

#[tokio::test]
async fn one_that_stalls_at_the_begin_or_at_the_end_is_dropped() {
    for name in ["begun.json", "backup_manifest.gz", "backup.json"] {
        let settings = TakeSettings {
            stall: Duration::from_secs(5),
            ..settings()
        };
        let rule = move |call: &Call| match call.name == name && call.operation != "head" {
            true => Act::Hang,
            false => Act::Pass,
        };
        let (_b2, dropped) = with_one_odd(&settings, rule).await;
        assert!(
            matches!(dropped.reason, DropReason::Stalled(_)),
            "{name}: {dropped}"
        );
    }
}

#[tokio::test]
async fn a_failure_that_passes_is_none() {
    let cloud = Cloud::start("r2").await;
    let odd = Odd::new(&cloud.repository, |call| match call.before {
        0 => Act::Unavailable,
        _ => Act::Pass,
    });
    let repositories: [Arc<dyn Repository>; 1] = [odd];
    let settings = TakeSettings {
        patience: walferry_base::Patience {
            attempts: 6,
            ..settings().patience
        },
        ..settings()
    };
    // Every request fails once.
    let taken = taken_with(Script::usual(), &repositories, &settings).await;
    match taken {
        Ok(taken) => assert_complete(&cloud, &taken.base).await,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_slice_that_was_damaged_on_the_way_is_noticed_and_sent_again() {
    let cloud = Cloud::start("r2").await;
    let odd = Odd::new(&cloud.repository, |call| {
        match is_slice(call) && call.before == 0 {
            true => Act::Damage,
            false => Act::Pass,
        }
    });
    let repositories: [Arc<dyn Repository>; 1] = [odd];
    let taken = taken(Script::usual(), &repositories).await.unwrap();
    assert_complete(&cloud, &taken.base).await;
}

#[tokio::test]
async fn one_that_damages_everything_is_dropped() {
    let (_b2, dropped) = with_one_odd(&settings(), |call| match is_slice(call) {
        true => Act::Damage,
        false => Act::Pass,
    })
    .await;
    assert!(
        matches!(dropped.reason, DropReason::Upload(UploadError::Mismatch(_))),
        "{dropped}"
    );
}

#[tokio::test]
async fn where_the_etag_says_nothing_the_object_is_read_back() {
    let cloud = Cloud::start("r2").await;
    let odd = Odd::new(&cloud.repository, |call| match call.operation {
        "head" | "list" => Act::HideEtag,
        _ => Act::Pass,
    });
    let repositories: [Arc<dyn Repository>; 1] = [odd];
    let taken = taken(Script::usual(), &repositories).await.unwrap();
    assert_complete(&cloud, &taken.base).await;
    let (_b2, dropped) = with_one_odd(&settings(), |call| match call.operation {
        "head" | "list" => Act::HideEtag,
        "put" if call.name.ends_with("base.tar/00001.gz") => Act::Damage,
        _ => Act::Pass,
    })
    .await;
    assert!(
        matches!(
            dropped.reason,
            DropReason::Upload(UploadError::Mismatch(_) | UploadError::ReadBack { .. })
        ),
        "{dropped}"
    );
}

#[tokio::test]
async fn with_no_repository_left_there_is_no_base_and_nothing_remains() {
    let (r2, b2) = (Cloud::start("r2").await, Cloud::start("b2").await);
    // Two that fail in the middle and still answer to deletes, of which one is asked first.
    let failing = |name: &'static str| {
        move |call: &Call| match is_slice(call) && call.name.ends_with(name) {
            true => Act::Denied,
            false => Act::Pass,
        }
    };
    let first = Odd::new(&r2.repository, failing("base.tar/00001.gz"));
    let second = Odd::new(&b2.repository, failing("base.tar/00003.gz"));
    let both: [Arc<dyn Repository>; 2] = [first.clone(), second];
    let error = taken(Script::usual(), &both).await.unwrap_err();
    match &error {
        TakeError::AllDropped(dropped) => assert_eq!(dropped.len(), 2),
        other => panic!("{other}"),
    }
    let text = error.to_string();
    assert!(text.contains("`r2`") && text.contains("`b2`"), "{text}");
    assert_eq!(r2.keys().await, [""; 0]);
    assert_eq!(b2.keys().await, [""; 0]);
    let deletes = first.deletes();
    assert_eq!(deletes.last().map(String::as_str), Some("begun.json"));
}

#[tokio::test]
async fn with_no_repository_from_the_start_there_is_no_base() {
    let cloud = Cloud::start("r2").await;
    let odd: Arc<dyn Repository> = Odd::new(&cloud.repository, |_| Act::Denied);
    let error = taken(Script::usual(), &[odd]).await.unwrap_err();
    assert!(matches!(error, TakeError::AllDropped(_)), "{error}");
    assert_eq!(cloud.keys().await, [""; 0]);
}

#[tokio::test]
async fn a_base_that_may_be_complete_is_not_taken_apart() {
    let cloud = Cloud::start("r2").await;
    let odd: Arc<dyn Repository> = Odd::new(&cloud.repository, |call| {
        match call.operation == "put-new" && call.name == "backup.json" {
            true => Act::PassAndDeny,
            false => Act::Pass,
        }
    });
    let error = taken(Script::usual(), &[odd]).await.unwrap_err();
    assert!(matches!(error, TakeError::AllDropped(_)), "{error}");
    let found = list(&*cloud.repository, &prefix()).await.unwrap();
    match &found[0].state {
        BaseState::Complete(base) => assert_complete(&cloud, base).await,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_somebody_deleted_meanwhile_is_noticed_before_the_base_is_complete() {
    let cloud = Cloud::start("b2").await;
    let odd: Arc<dyn Repository> = Odd::new(&cloud.repository, |call| {
        match call.operation == "put" && call.name == "backup_manifest.gz" {
            true => Act::Lose("base.tar/00000.gz"),
            false => Act::Pass,
        }
    });
    let error = taken(Script::usual(), &[odd]).await.unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    assert_eq!(cloud.keys().await, [""; 0]);
}
