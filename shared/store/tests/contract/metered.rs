//! What the metrics see.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use walferry_proof::RepositoryName;
use walferry_store::{Metadata, Metered, Observer, ReadRepository, Repository};

use crate::key;
use crate::scripted::{Mood, Scripted};

#[derive(Default)]
struct Notes(Mutex<Vec<(&'static str, &'static str, u64)>>);

impl Observer for Notes {
    fn request(
        &self,
        repository: &RepositoryName,
        operation: &'static str,
        outcome: &'static str,
        _: Duration,
        bytes: u64,
    ) {
        assert_eq!(repository.as_str(), "r2");
        let mut notes = self.0.lock().expect("notes");
        notes.push((operation, outcome, bytes));
    }
}

#[tokio::test]
async fn every_request_is_told_once_with_its_outcome_and_bytes() {
    let (inner, notes) = (
        Arc::new(Scripted::new(Mood::Well)),
        Arc::new(Notes::default()),
    );
    let r2 = Metered::new(inner.clone(), notes.clone());
    let (key, metadata, body) = (key("a"), Metadata::new(), Bytes::from_static(b"abcd"));
    let put = || crate::put(&r2, &key, &body);
    let download = async || {
        let stream = r2.get(&key).await.expect("an answer").expect("an object");
        stream.body.try_collect::<Vec<_>>().await
    };
    put().await.expect("stored");
    r2.put_new(&key, body.clone(), &metadata, &walferry_proof::md5(&body))
        .await
        .expect("stored");
    let parts = futures::stream::iter([Ok(body.clone()), Ok(body.clone())]).boxed();
    r2.put_parts(&key, parts, &metadata).await.expect("stored");
    r2.head(&key).await.expect("an answer");
    download().await.expect("all of it");
    r2.delete(&key).await.expect("deleted");
    drop(r2.get(&key).await.expect("an answer"));
    inner.turn(Mood::BreaksBodies);
    download().await.expect_err("it breaks");
    inner.turn(Mood::Refuses);
    put().await.expect_err("refused");
    r2.probe().await.expect_err("refused");
    r2.clock().await.expect_err("refused");
    r2.list(&crate::prefix("wal/"), None, 1)
        .await
        .expect_err("refused");
    inner.turn(Mood::Hangs);
    let hung = tokio::time::timeout(Duration::from_millis(1), put()).await;
    assert!(hung.is_err(), "it hangs");

    assert_eq!(
        *notes.0.lock().expect("notes"),
        [
            ("put", "ok", 4),
            ("put-new", "ok", 4),
            ("put-parts", "ok", 8),
            ("head", "ok", 0),
            ("get", "ok", 6),
            ("delete", "ok", 0),
            ("get", "dropped", 0),
            ("get", "interrupted", 3),
            ("put", "refused", 0),
            ("probe", "refused", 0),
            ("clock", "refused", 0),
            ("list", "refused", 0),
            ("put", "dropped", 0),
        ]
    );
}
