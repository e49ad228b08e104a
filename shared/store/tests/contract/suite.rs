//! The contract, one function per promise, and the servers it is shown on.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::Utc;
use futures::{StreamExt, TryStreamExt};
use walferry_proof::md5;
use walferry_store::{Deleted, PutNew, StoreError};

use crate::servers::{World, embedded, read, seaweedfs, seaweedfs_versioned};
use crate::{cause, failed, key, random};

/// Each promise becomes a test on each server.
macro_rules! on_every_server {
    ($($promise:ident)*) => {
        mod on_s3s_fs { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() { super::$promise(super::embedded().await).await }
        )* }
        mod on_seaweedfs { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() { super::$promise(super::seaweedfs()).await }
        )* }
        mod on_seaweedfs_versioned { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() { super::$promise(super::seaweedfs_versioned()).await }
        )* }
    };
}

on_every_server! {
    what_was_put_comes_back_with_its_facts
    an_empty_object_is_an_object
    an_absent_key_is_none_and_no_error
    putting_again_replaces
    a_body_damaged_on_the_way_is_refused
    a_new_object_is_created_once
    without_conditional_put_a_new_object_is_created_once_too
    parts_of_any_size_become_one_object_with_the_etag_we_computed
    an_upload_without_a_byte_is_an_object
    an_upload_whose_source_fails_leaves_no_object
    a_listing_is_sorted_and_continues_where_it_ended
    a_listing_keeps_to_its_prefix
    deleting_takes_exactly_one_key
    awkward_characters_survive_the_way
    the_clock_is_the_servers
    a_missing_bucket_is_not_a_missing_key
    a_wrong_secret_is_denied_in_the_clouds_own_words
    an_unknown_key_id_is_denied
}

fn metadata() -> BTreeMap<String, String> {
    [
        ("wf-sha256", "00ff"),
        ("wf-size", "16777216"),
        ("wf-cluster", "main"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

async fn what_was_put_comes_back_with_its_facts(world: World) {
    let (r2, key) = (&world.repository, world.key("000000010000000000000001.gz"));
    let body = random(3 * 1024 * 1024 + 17);
    let sum = md5(&body);
    r2.put(&key, body.clone(), &metadata(), &sum)
        .await
        .expect("stored");

    let facts = r2.head(&key).await.expect("an answer").expect("an object");
    assert_eq!(facts.size, body.len() as u64);
    assert_eq!(facts.etag.as_deref(), Some(&*sum.to_string()));
    assert_eq!(facts.metadata, metadata());
    let age = (Utc::now() - facts.last_modified).num_seconds();
    assert!((-60..600).contains(&age), "modified {age} s ago");

    let stream = r2.get(&key).await.expect("an answer").expect("an object");
    assert_eq!(stream.facts, facts);
    let chunks: Vec<Bytes> = stream.body.try_collect().await.expect("all of it");
    assert!(chunks.concat() == body, "other bytes came back");
}

async fn an_empty_object_is_an_object(world: World) {
    let (r2, key) = (&world.repository, world.key("empty"));
    r2.put(&key, Bytes::new(), &metadata(), &md5(b""))
        .await
        .expect("stored");
    let facts = r2.head(&key).await.expect("an answer").expect("an object");
    assert_eq!((facts.size, facts.metadata), (0, metadata()));
    assert_eq!(read(&**r2, &key).await, b"");
}

async fn an_absent_key_is_none_and_no_error(world: World) {
    let (r2, key) = (&world.repository, world.key("absent"));
    assert_eq!(r2.head(&key).await.expect("an answer"), None);
    assert!(r2.get(&key).await.expect("an answer").is_none());
    assert_eq!(
        r2.delete(&key).await.expect("nothing to do"),
        Deleted { versions: 0 }
    );
    r2.probe().await.expect("the bucket is there");
}

async fn putting_again_replaces(world: World) {
    let (r2, key) = (&world.repository, world.key("again"));
    for size in [100, 100, 50] {
        let body = random(size);
        r2.put(&key, body.clone(), &metadata(), &md5(&body))
            .await
            .expect("stored");
        assert_eq!(read(&**r2, &key).await, body);
    }
}

async fn a_body_damaged_on_the_way_is_refused(world: World) {
    let (r2, key) = (&world.repository, world.key("damaged"));
    let meant = md5(b"what was meant");
    let error = failed(r2.put(&key, random(100), &metadata(), &meant).await);
    assert_eq!(error.cause(), "damaged", "{}", error.report());
}

async fn a_new_object_is_created_once(world: World) {
    created_once(&world, true).await;
}

async fn without_conditional_put_a_new_object_is_created_once_too(world: World) {
    created_once(&world, false).await;
}

async fn created_once(world: &World, conditional_put: bool) {
    let r2 = world.with(|settings| settings.conditional_put = conditional_put);
    let key = world.key("walferry-owner.json");
    let put = async |body: &'static [u8]| {
        let body = Bytes::from_static(body);
        let sum = md5(&body);
        r2.put_new(&key, body, &metadata(), &sum)
            .await
            .expect("an answer")
    };
    let created = put(b"mine").await;
    let PutNew::Created(seen) = created else {
        panic!("{created:?}");
    };
    // Who had to look after the PUT hands on what it saw, so that nobody asks again.
    let etag = seen.and_then(|facts| facts.etag);
    assert_eq!(etag, (!conditional_put).then(|| md5(b"mine").to_string()));
    // The answer to the first attempt may have been lost.
    assert_eq!(put(b"mine").await, PutNew::Created(None));
    assert_eq!(put(b"your").await, PutNew::Exists);
    assert_eq!(put(b"mine too").await, PutNew::Exists);
    assert_eq!(read(&*r2, &key).await, b"mine");
}

/// s3s-fs is left out: its conditional PUT is racy itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_eight_that_create_an_object_at_once_one_wins() {
    let world = seaweedfs();
    let (r2, key) = (&world.repository, world.key("walferry-owner.json"));
    let bodies: Vec<Bytes> = (0..8).map(|_| random(64)).collect();
    let metadata = BTreeMap::new();
    let puts = bodies
        .iter()
        .map(async |body| r2.put_new(&key, body.clone(), &metadata, &md5(body)).await);
    let outcomes = futures::future::join_all(puts).await;
    let held = read(&**r2, &key).await;
    let mut created = 0;
    for (body, outcome) in bodies.iter().zip(outcomes) {
        match outcome {
            Ok(PutNew::Created(_)) => {
                created += 1;
                assert!(held == *body, "the winner's bytes are not there");
            }
            Ok(PutNew::Exists) => assert!(held != *body, "a loser's bytes are there"),
            Err(error) => assert_eq!(error.cause(), "conflict"),
        }
    }
    assert_eq!(created, 1);
}

async fn parts_of_any_size_become_one_object_with_the_etag_we_computed(world: World) {
    let (r2, key) = (&world.repository, world.key("large.gz"));
    let body = random(20 * 1024 * 1024 + 5);
    let pieces: Vec<_> = body
        .chunks(1_000_003)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    let etag = r2
        .put_parts(&key, futures::stream::iter(pieces).boxed(), &metadata())
        .await
        .expect("stored");
    assert!(etag.ends_with("-3"), "{etag}");
    let facts = r2.head(&key).await.expect("an answer").expect("an object");
    assert_eq!(facts.etag, Some(etag));
    assert_eq!(facts.size, body.len() as u64);
    assert_eq!(facts.metadata, metadata());
    assert!(read(&**r2, &key).await == body, "other bytes came back");
}

async fn an_upload_without_a_byte_is_an_object(world: World) {
    let (r2, key) = (&world.repository, world.key("nothing.gz"));
    let etag = r2
        .put_parts(&key, futures::stream::empty().boxed(), &metadata())
        .await
        .expect("stored");
    let facts = r2.head(&key).await.expect("an answer").expect("an object");
    assert_eq!((facts.size, facts.etag), (0, Some(etag)));
}

async fn an_upload_whose_source_fails_leaves_no_object(world: World) {
    let (r2, key) = (&world.repository, world.key("half.gz"));
    // A copy from cloud to cloud, and the other one breaks: not this one's fault.
    let other = StoreError::Interrupted {
        at: walferry_store::At::new(&"b2".parse().expect("a name"), "get", None),
        source: "cut".into(),
    };
    let pieces = vec![Ok(random(9 * 1024 * 1024)), Err(other)];
    let error = failed(crate::put_parts(&**r2, &key, pieces).await);
    assert_eq!(
        (error.cause(), error.blames_repository()),
        ("upload", false)
    );
    assert!(
        error
            .report()
            .contains("get in `b2`: the connection broke: cut")
    );
    assert_eq!(r2.head(&key).await.expect("an answer"), None);
    if let Some(server) = &world.embedded {
        assert_eq!(leftovers(server.root()), Vec::<String>::new());
    }
}

/// What s3s-fs keeps of uploads that are neither completed nor aborted.
pub(crate) fn leftovers(root: &std::path::Path) -> Vec<String> {
    std::fs::read_dir(root)
        .expect("the server's folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".upload"))
        .collect()
}

async fn a_listing_is_sorted_and_continues_where_it_ended(world: World) {
    let r2 = &world.repository;
    // No key begins with another one: SeaweedFS' versioned buckets sort those otherwise
    // and lose some between pages. No two WAL files are named so.
    let names = ["a/9", "b", "c.gz", "d.gz.bak", "e"];
    for name in names.iter().rev() {
        let body = Bytes::from(name.to_owned());
        r2.put(&world.key(name), body.clone(), &metadata(), &md5(&body))
            .await
            .expect("stored");
    }
    let all = r2.list(&world.prefix(), None, 100).await.expect("a page");
    let expected: Vec<_> = names.map(|name| world.key(name)).into();
    let keys = |page: &walferry_store::Page| -> Vec<_> {
        page.objects
            .iter()
            .map(|object| object.key.clone())
            .collect()
    };
    assert_eq!((keys(&all), all.more), (expected.clone(), false));
    for (object, name) in all.objects.iter().zip(names) {
        assert_eq!(object.size, name.len() as u64);
        if let Some(etag) = &object.etag {
            assert_eq!(*etag, md5(name.as_bytes()).to_string());
        }
    }
    let mut found = Vec::new();
    loop {
        let page = r2
            .list(&world.prefix(), found.last(), 2)
            .await
            .expect("a page");
        assert!(page.objects.len() <= 2, "more than asked for");
        found.extend(keys(&page));
        if !page.more {
            break;
        }
        assert!(!page.objects.is_empty(), "a page that leads nowhere");
    }
    assert_eq!(found, expected);
}

async fn a_listing_keeps_to_its_prefix(world: World) {
    let r2 = &world.repository;
    for name in ["wal/1", "wal2/1", "wa/1"] {
        r2.put(&world.key(name), Bytes::new(), &metadata(), &md5(b""))
            .await
            .expect("stored");
    }
    let prefix = crate::prefix(&format!("{}wal/", world.folder));
    let page = r2.list(&prefix, None, 100).await.expect("a page");
    assert_eq!(page.objects.len(), 1);
    assert_eq!(page.objects[0].key, world.key("wal/1"));
    let nothing = crate::prefix(&format!("{}nothing/", world.folder));
    let page = r2.list(&nothing, None, 100).await.expect("a page");
    assert_eq!(page, walferry_store::Page::default());
}

async fn deleting_takes_exactly_one_key(world: World) {
    let r2 = &world.repository;
    let names = ["1.gz", "1.gz.bak", "1.gz2", "1.g"];
    for name in names {
        r2.put(&world.key(name), Bytes::new(), &metadata(), &md5(b""))
            .await
            .expect("stored");
    }
    let deleted = r2.delete(&world.key("1.gz")).await.expect("deleted");
    assert_eq!(deleted, Deleted { versions: 1 });
    assert_eq!(r2.head(&world.key("1.gz")).await.expect("an answer"), None);
    for name in &names[1..] {
        let facts = r2.head(&world.key(name)).await.expect("an answer");
        assert!(facts.is_some(), "`{name}` is gone too");
    }
}

async fn awkward_characters_survive_the_way(world: World) {
    let r2 = &world.repository;
    let key = world.key("a b+c=d&e%25~f(1)'*!@:;,$.gz");
    let body = random(10);
    r2.put(&key, body.clone(), &metadata(), &md5(&body))
        .await
        .expect("stored");
    assert_eq!(read(&**r2, &key).await, body);
    let page = r2.list(&world.prefix(), None, 10).await.expect("a page");
    assert_eq!(page.objects.len(), 1);
    assert_eq!(page.objects[0].key, key);
    let page = r2
        .list(&world.prefix(), Some(&key), 10)
        .await
        .expect("a page");
    assert_eq!(page.objects.len(), 0);
    let deleted = r2.delete(&key).await.expect("deleted");
    assert_eq!(deleted, Deleted { versions: 1 });
    assert_eq!(r2.head(&key).await.expect("an answer"), None);
}

async fn the_clock_is_the_servers(world: World) {
    let clock = world.repository.clock().await.expect("the time");
    let off = (Utc::now() - clock).num_seconds().abs();
    assert!(off < 60, "{off} s off");
}

async fn a_missing_bucket_is_not_a_missing_key(world: World) {
    let r2 = world.with(|settings| settings.bucket = "no-such-bucket".to_owned());
    let (key, body) = (key("wal/1.gz"), random(10));
    let sum = md5(&body);
    let parts = futures::stream::iter([Ok(body.clone())]).boxed();
    assert_eq!(cause(r2.probe().await), "no-bucket");
    assert_eq!(cause(r2.head(&key).await), "no-bucket");
    assert_eq!(cause(r2.get(&key).await), "no-bucket");
    assert_eq!(cause(r2.list(&world.prefix(), None, 1).await), "no-bucket");
    assert_eq!(
        cause(r2.put(&key, body.clone(), &metadata(), &sum).await),
        "no-bucket"
    );
    assert_eq!(
        cause(r2.put_new(&key, body, &metadata(), &sum).await),
        "no-bucket"
    );
    assert_eq!(
        cause(r2.put_parts(&key, parts, &metadata()).await),
        "no-bucket"
    );
    assert_eq!(cause(r2.delete(&key).await), "no-bucket");
}

async fn a_wrong_secret_is_denied_in_the_clouds_own_words(world: World) {
    let r2 = world.with(|settings| {
        settings.secret_access_key = format!("not-{}", crate::SECRET).into();
    });
    let (key, body) = (world.key("1.gz"), random(10));
    let sum = md5(&body);
    let errors = [
        failed(r2.probe().await),
        failed(r2.head(&key).await),
        failed(r2.get(&key).await),
        failed(r2.list(&world.prefix(), None, 1).await),
        failed(r2.put(&key, body.clone(), &metadata(), &sum).await),
        failed(r2.put_new(&key, body, &metadata(), &sum).await),
        failed(r2.delete(&key).await),
    ];
    for error in errors {
        assert_eq!(error.cause(), "denied", "{}", error.report());
        assert!(
            error.to_string().contains("SignatureDoesNotMatch"),
            "no words of the cloud: {error}"
        );
        assert!(error.report().contains("HINT: check the key id"));
    }
    // A refusal tells the time too.
    r2.clock().await.expect("the time");
    assert_eq!(world.repository.head(&key).await.expect("an answer"), None);
}

async fn an_unknown_key_id_is_denied(world: World) {
    let r2 = world.with(|settings| settings.access_key_id = "nobody".into());
    let error = failed(r2.head(&world.key("1.gz")).await);
    assert_eq!(error.cause(), "denied", "{}", error.report());
}
