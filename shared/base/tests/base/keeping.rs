//! Keeping, removing, cleaning, checking.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use walferry_base::{Abandoned, Fault, FaultKind, KeepError, check, clean, list, remove, set_keep};
use walferry_layout::base::{BaseLabel, BegunBase, KeepMark};
use walferry_pack::pool::PackPool;
use walferry_store::Repository;

use crate::clouds::{Cloud, LABEL, facts, key, prefix, taken, two_with_a_base};
use crate::odd::{Act, Odd};
use crate::script::Script;

fn label() -> BaseLabel {
    LABEL.parse().unwrap()
}

#[tokio::test]
async fn a_mark_comes_changes_and_goes() {
    let (r2, _b2, _) = two_with_a_base().await;
    let until = Some("2027-01-01T00:00:00Z".parse().unwrap());
    for mark in [
        Some(KeepMark { until: None }),
        Some(KeepMark { until }),
        None,
        None,
    ] {
        set_keep(&*r2.repository, &prefix(), label(), mark.clone())
            .await
            .unwrap();
        let found = list(&*r2.repository, &prefix()).await.unwrap();
        assert_eq!(found[0].keep, mark);
    }
    let mark = Some(KeepMark { until: None });
    let none = "20261103T193001Z".parse().unwrap();
    let error = set_keep(&*r2.repository, &prefix(), none, mark)
        .await
        .unwrap_err();
    assert!(matches!(error, KeepError::NotComplete { .. }), "{error}");
}

#[tokio::test]
async fn removing_leaves_nothing_and_begins_with_what_makes_it_complete() {
    let (r2, b2, _) = two_with_a_base().await;
    set_keep(
        &*r2.repository,
        &prefix(),
        label(),
        Some(KeepMark { until: None }),
    )
    .await
    .unwrap();
    r2.put(&format!("{LABEL}/notes.txt"), b"not ours").await;
    let odd = Odd::new(&r2.repository, |_| Act::Pass);
    let removed = remove(&*odd, &prefix(), label()).await.unwrap();
    assert_eq!(removed.objects, 12);
    assert_eq!(removed.versions, 12);
    assert!(removed.stored_size > 0);
    assert_eq!(r2.keys().await, [format!("base/{LABEL}/notes.txt")]);
    let deletes = odd.deletes();
    assert_eq!(deletes.first().map(String::as_str), Some("backup.json"));
    assert_eq!(deletes.last().map(String::as_str), Some("begun.json"));
    // Of the other repository nothing was touched; and what is gone can be removed again.
    assert_eq!(b2.keys().await.len(), 11);
    let again = remove(&*r2.repository, &prefix(), label()).await.unwrap();
    assert_eq!(again.objects, 0);
}

#[tokio::test]
async fn a_removal_that_is_interrupted_leaves_no_base_and_is_done_again() {
    let (r2, _b2, _) = two_with_a_base().await;
    let odd = Odd::new(&r2.repository, |call| {
        match call.operation == "delete" && call.name == "base.tar/00002.gz" {
            true => Act::Denied,
            false => Act::Pass,
        }
    });
    assert!(remove(&*odd, &prefix(), label()).await.is_err());
    let keys = r2.keys().await;
    assert!(
        !keys.contains(&format!("base/{LABEL}/backup.json")),
        "{keys:?}"
    );
    assert!(
        keys.contains(&format!("base/{LABEL}/begun.json")),
        "{keys:?}"
    );
    let rule = Abandoned {
        older_than: Utc::now() - label().time() - TimeDelta::hours(1),
        running: [].into(),
    };
    assert_eq!(
        clean(&*r2.repository, &prefix(), &rule)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(r2.keys().await, [""; 0]);
}

#[tokio::test]
async fn only_what_is_abandoned_is_cleaned() {
    let cloud = Cloud::start("r2").await;
    let at = |age: i64| BaseLabel::at(Utc::now() - TimeDelta::seconds(age));
    let (old, running, young) = (at(7200), at(7201), at(60));
    let (orphan, newer, complete) = (at(7202), at(7203), at(7204));
    for begun in [old, running, young, complete] {
        let json = BegunBase {
            format: 1,
            label: begun,
            cluster: "main".to_owned(),
            system_id: facts().system_id,
            started_at: begun.time(),
        }
        .to_json();
        cloud.put(&format!("{begun}/begun.json"), &json).await;
    }
    cloud
        .put(&format!("{newer}/begun.json"), br#"{"format":2}"#)
        .await;
    for label in [old, running, young, orphan, newer, complete] {
        cloud
            .put(&format!("{label}/base.tar/00000.gz"), b"slice")
            .await;
        cloud
            .put(&format!("{label}/16400.tar/00000.gz"), b"slice")
            .await;
    }
    // Even one that cannot be understood: somebody wrote it as the last object.
    cloud.put(&format!("{complete}/backup.json"), b"{}").await;
    cloud.put(&format!("{old}/notes.txt"), b"not ours").await;

    let rule = Abandoned {
        older_than: TimeDelta::hours(1),
        running: [running].into(),
    };
    let odd = Odd::new(&cloud.repository, |_| Act::Pass);
    let cleaned = clean(&*odd, &prefix(), &rule).await.unwrap();
    let labels: Vec<_> = cleaned.iter().map(|cleaned| cleaned.label).collect();
    assert_eq!(labels, [orphan, old]);
    assert_eq!(cleaned[1].objects, 3);
    let keys = cloud.keys().await;
    let left = |label: BaseLabel| {
        keys.iter()
            .filter(|key| key.contains(&label.to_string()))
            .count()
    };
    assert_eq!([orphan, old].map(left), [0, 1]);
    assert_eq!([running, young, newer, complete].map(left), [3, 3, 3, 4]);
    assert_eq!(odd.deletes().last().map(String::as_str), Some("begun.json"));
}

#[tokio::test]
async fn a_base_that_was_completed_after_it_was_listed_is_not_cleaned() {
    let cloud = Cloud::start("r2").await;
    taken(Script::usual(), &[Arc::clone(&cloud.repository)])
        .await
        .unwrap();
    let keys = cloud.keys().await;
    // The listing does not show it yet.
    let hidden = Hiding(Arc::clone(&cloud.repository));
    let rule = Abandoned {
        older_than: Utc::now() - label().time() - TimeDelta::hours(1),
        running: [].into(),
    };
    assert_eq!(clean(&hidden, &prefix(), &rule).await.unwrap(), []);
    assert_eq!(cloud.keys().await, keys);
}

#[tokio::test]
async fn what_is_missing_or_damaged_is_named() {
    let (r2, _b2, taken) = two_with_a_base().await;
    let slice = |number| format!("{LABEL}/base.tar/0000{number}.gz");
    r2.delete(&slice(0)).await;
    r2.put(&slice(1), b"short").await;
    let mut flipped = r2.get(&slice(2)).await.to_vec();
    flipped[30] ^= 1;
    r2.put(&slice(2), &flipped).await;
    let manifest = format!("{LABEL}/backup_manifest.gz");
    r2.put(&manifest, b"no gzip").await;
    let complete = format!("{LABEL}/backup.json");
    r2.delete(&complete).await;
    let pool = PackPool::start(1).unwrap();
    for hide in [false, true] {
        let odd: Arc<dyn Repository> = Odd::new(&r2.repository, move |_| match hide {
            true => Act::HideEtag,
            false => Act::Pass,
        });
        let faults = check(&taken.base, &prefix(), &*odd, &pool).await.unwrap();
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.clone()).collect();
        let names = [
            slice(0),
            slice(1),
            slice(2),
            manifest.clone(),
            complete.clone(),
        ];
        assert_eq!(keys, names.map(|name| key(&name)));
        assert_eq!(faults[0].kind, FaultKind::Missing);
        let size = taken
            .base
            .slices
            .iter()
            .find(|s| s.archive == walferry_layout::base::TarArchive::Base && s.number == 1);
        let expected = size.unwrap().stored_size;
        assert_eq!(faults[1].kind, FaultKind::Size { expected, found: 5 });
        let damaged = |fault: &Fault| matches!(fault.kind, FaultKind::Damaged(_));
        assert!(faults[2].kind == FaultKind::Content || damaged(&faults[2]));
        assert!(damaged(&faults[3]), "{}", faults[3]);
        assert_eq!(faults[4].kind, FaultKind::Missing);
        assert!(faults[0].to_string().contains("00000.gz` is missing"));
    }
}

/// Lists everything but `backup.json`.
struct Hiding(Arc<dyn Repository>);

mod hiding {
    use async_trait::async_trait;
    use bytes::Bytes;
    use chrono::{DateTime, Utc};
    use futures::stream::BoxStream;
    use walferry_proof::{KeyPrefix, Md5, ObjectKey, RepositoryName};
    use walferry_store::{
        Deleted, Metadata, ObjectFacts, ObjectStream, Page, PutNew, ReadRepository, Repository,
        StoreError,
    };

    #[async_trait]
    impl ReadRepository for super::Hiding {
        fn name(&self) -> &RepositoryName {
            self.0.name()
        }

        async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError> {
            self.0.head(key).await
        }

        async fn get(&self, key: &ObjectKey) -> Result<Option<ObjectStream>, StoreError> {
            self.0.get(key).await
        }

        async fn list(
            &self,
            prefix: &KeyPrefix,
            after: Option<&ObjectKey>,
            limit: usize,
        ) -> Result<Page, StoreError> {
            let mut page = self.0.list(prefix, after, limit).await?;
            page.objects
                .retain(|listed| !listed.key.as_str().ends_with("backup.json"));
            Ok(page)
        }

        async fn clock(&self) -> Result<DateTime<Utc>, StoreError> {
            self.0.clock().await
        }

        async fn probe(&self) -> Result<(), StoreError> {
            self.0.probe().await
        }
    }

    #[async_trait]
    impl Repository for super::Hiding {
        async fn put(
            &self,
            _: &ObjectKey,
            _: Bytes,
            _: &Metadata,
            _: &Md5,
        ) -> Result<(), StoreError> {
            unreachable!("cleaning stores nothing")
        }

        async fn put_new(
            &self,
            _: &ObjectKey,
            _: Bytes,
            _: &Metadata,
            _: &Md5,
        ) -> Result<PutNew, StoreError> {
            unreachable!("cleaning stores nothing")
        }

        async fn put_parts(
            &self,
            _: &ObjectKey,
            _: BoxStream<'_, Result<Bytes, StoreError>>,
            _: &Metadata,
        ) -> Result<String, StoreError> {
            unreachable!("cleaning stores nothing")
        }

        async fn delete(&self, key: &ObjectKey) -> Result<Deleted, StoreError> {
            self.0.delete(key).await
        }
    }
}
