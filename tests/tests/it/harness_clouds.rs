//! The harness's S3 servers store what they are given and check signatures: a
//! server that takes any secret proves nothing.

use walferry_tests::sigv4::Credentials;
use walferry_tests::{Bucket, Kind, World, clouds};

fn check_secrets(kind: Kind) {
    let world = World::builder()
        .clouds(kind, kind)
        .no_redis()
        .no_catalog()
        .build();
    let cloud = world.cloud("r2");
    let right = cloud
        .bucket()
        .seen_by(cloud.proxy().address(), cloud.credentials().clone());
    let put = |bucket: &Bucket| {
        bucket
            .request("PUT", "wal/x.gz", "", b"content")
            .expect("an answer")
            .status
    };

    assert_eq!(put(&right), 200, "the right secret, through the proxy");
    for (id, secret) in [
        (cloud.credentials().id.clone(), "another secret".to_owned()),
        ("nobody".to_owned(), cloud.credentials().secret.clone()),
        (
            world.cloud("b2").credentials().id.clone(),
            world.cloud("b2").credentials().secret.clone(),
        ),
    ] {
        let wrong = Credentials {
            id,
            secret,
            region: "us-east-005".into(),
        };
        let status = put(&cloud
            .bucket()
            .seen_by(cloud.proxy().address(), wrong.clone()));
        assert_eq!(status, 403, "{wrong:?}");
    }
}

#[test]
fn seaweedfs_refuses_a_wrong_secret() {
    check_secrets(Kind::SeaweedFs);
}

#[test]
fn s3s_refuses_a_wrong_secret() {
    check_secrets(Kind::S3s);
}

fn check_objects(kind: Kind) {
    let world = World::builder()
        .clouds(kind, kind)
        .no_redis()
        .no_catalog()
        .build();
    let bucket = world.cloud("b2").bucket();
    bucket.put_with("wal/a b+c.gz", b"one", &[("wf-size", "3")]);
    bucket.put("wal/z.gz", b"two");
    assert_eq!(bucket.keys("wal/"), ["wal/a b+c.gz", "wal/z.gz"]);
    assert_eq!(bucket.list("wal/z")[0].size, 3);
    let answer = bucket.get("wal/a b+c.gz").expect("the object");
    assert_eq!(answer.text(), "one");
    assert_eq!(answer.header("x-amz-meta-wf-size").as_deref(), Some("3"));
    let etag = bucket.head("wal/z.gz").and_then(|head| head.header("etag"));
    assert_eq!(
        etag.as_deref(),
        Some("\"b8a9f715dbb64fd5c56e7783c6820a61\"")
    );
    bucket.delete("wal/z.gz");
    assert!(bucket.get("wal/z.gz").is_none());
}

#[test]
fn seaweedfs_stores_lists_and_deletes() {
    check_objects(Kind::SeaweedFs);
}

#[test]
fn s3s_stores_lists_and_deletes() {
    check_objects(Kind::S3s);
}

#[test]
fn a_versioned_bucket_keeps_old_versions_until_each_is_deleted() {
    let world = World::builder()
        .versioned_b2()
        .no_redis()
        .no_catalog()
        .build();
    let bucket = world.cloud("b2").bucket();
    bucket.put("wal/x.gz", b"one");
    bucket.put("wal/x.gz", b"two");
    bucket.delete("wal/x.gz");
    assert!(bucket.get("wal/x.gz").is_none());
    let versions = bucket.versions("wal/x.gz");
    let markers = versions
        .iter()
        .filter(|version| version.delete_marker)
        .count();
    assert_eq!((versions.len(), markers), (3, 1), "{versions:?}");
    bucket.delete_all_versions("wal/x.gz");
    assert_eq!(bucket.versions("wal/x.gz"), [] as [clouds::Version; 0]);
}
