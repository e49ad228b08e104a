//! What a repository is said to hold.

use std::sync::Arc;

use walferry_base::{BaseState, list};
use walferry_layout::base::{BegunBase, CompleteBase, KeepMark};
use walferry_store::Repository;

use crate::clouds::{Cloud, LABEL, facts, prefix, taken};
use crate::odd::{Act, Odd};
use crate::script::Script;

fn begun(label: &str) -> Vec<u8> {
    let label: walferry_layout::base::BaseLabel = label.parse().unwrap();
    BegunBase {
        format: 1,
        label,
        cluster: "main".to_owned(),
        system_id: facts().system_id,
        started_at: label.time(),
    }
    .to_json()
}

#[tokio::test]
async fn complete_begun_unreadable_and_foreign_are_told_apart_newest_first() {
    let cloud = Cloud::start("r2").await;
    let taken = taken(Script::usual(), &[Arc::clone(&cloud.repository)])
        .await
        .unwrap();
    let newest = "20261104T000000Z";
    cloud
        .put(&format!("{newest}/begun.json"), &begun(newest))
        .await;
    cloud
        .put(&format!("{newest}/base.tar/00000.gz"), b"slice")
        .await;
    // Complete, they say.
    let newer = CompleteBase {
        format: 2,
        ..taken.base.clone()
    };
    cloud
        .put("20261102T000000Z/backup.json", &newer.to_json())
        .await;
    cloud
        .put("20261101T000000Z/backup.json", &taken.base.to_json())
        .await;
    cloud.put("20261031T000000Z/begun.json", b"{").await;
    cloud
        .put("20261030T000000Z/base.tar/00007.gz", b"slice")
        .await;
    // Nobody's.
    cloud.put("20261103T193000Z/notes.txt", b"junk").await;
    cloud.put("20261029T000000Z/base.tar/7.gz", b"junk").await;
    cloud.put("yesterday/backup.json", b"{}").await;
    cloud.put("junk", b"junk").await;

    // Through small pages, as those of a large listing are.
    let paged: Arc<dyn Repository> = Odd::new(&cloud.repository, |_| Act::Pass);
    let found = list(&*paged, &prefix()).await.unwrap();
    let labels: Vec<String> = found.iter().map(|base| base.label.to_string()).collect();
    assert_eq!(
        labels,
        [
            newest,
            LABEL,
            "20261102T000000Z",
            "20261101T000000Z",
            "20261031T000000Z",
            "20261030T000000Z"
        ]
    );
    assert!(
        matches!(found[0].state, BaseState::Begun(_)),
        "{:?}",
        found[0]
    );
    assert_eq!((found[0].objects, found[0].stored_size > 5), (2, true));
    assert_eq!(found[1].state, BaseState::Complete(Box::new(taken.base)));
    assert_eq!(found[1].objects, 11);
    for (index, says) in [
        (2, "format 2"),
        (3, LABEL),
        (4, "begun.json"),
        (5, "neither"),
    ] {
        match &found[index].state {
            BaseState::Unreadable(why) => assert!(why.contains(says), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(found.iter().all(|base| base.keep.is_none()));
}

#[tokio::test]
async fn a_mark_that_cannot_be_read_keeps_the_base() {
    let cloud = Cloud::start("r2").await;
    cloud
        .put(&format!("{LABEL}/begun.json"), &begun(LABEL))
        .await;
    cloud
        .put(&format!("{LABEL}/keep.json"), b"until I say so")
        .await;
    let found = list(&*cloud.repository, &prefix()).await.unwrap();
    assert_eq!(found[0].keep, Some(KeepMark { until: None }));
}

#[tokio::test]
async fn an_empty_repository_has_none_and_one_that_does_not_answer_is_an_error() {
    let cloud = Cloud::start("r2").await;
    assert_eq!(list(&*cloud.repository, &prefix()).await.unwrap(), []);
    let odd: Arc<dyn Repository> = Odd::new(&cloud.repository, |_| Act::Denied);
    assert!(list(&*odd, &prefix()).await.is_err());
}
