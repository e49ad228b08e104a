//! Buckets that keep every version, as all of B2's do.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};
use walferry_proof::md5;
use walferry_store::{Deleted, Listed, Metadata};

use crate::random;
use crate::servers::{embedded, read, seaweedfs_versioned};
use crate::suite::leftovers;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_removes_every_version_and_every_delete_marker() {
    let world = seaweedfs_versioned();
    let (r2, bare) = (&world.repository, world.bare());
    let (key, neighbour) = (world.key("1.gz"), world.key("1.gz.bak"));
    let path = Path::parse(key.as_str()).expect("a path");
    let mut versions = Vec::new();
    for round in 0..3 {
        let stored = bare
            .put(&path, Bytes::from(format!("round {round}")).into())
            .await
            .expect("stored");
        versions.push(stored.version.expect("a version"));
    }
    r2.put(&neighbour, Bytes::new(), &Metadata::new(), &md5(b""))
        .await
        .expect("stored");
    // A plain DELETE hides the object behind a marker and frees nothing.
    bare.delete(&path).await.expect("deleted");
    assert_eq!(r2.head(&key).await.expect("an answer"), None);
    for version in &versions {
        bare.get_opts(&path, at_version(version))
            .await
            .expect("the version is still there");
    }

    let deleted = r2.delete(&key).await.expect("deleted");

    assert_eq!(deleted, Deleted { versions: 4 });
    for version in &versions {
        let gone = bare.get_opts(&path, at_version(version)).await;
        assert!(
            matches!(gone, Err(object_store::Error::NotFound { .. })),
            "version {version} is still there: {gone:?}"
        );
    }
    assert_eq!(
        r2.delete(&key).await.expect("again"),
        Deleted { versions: 0 }
    );
    assert_eq!(read(&**r2, &neighbour).await, b"");
}

fn at_version(version: &str) -> GetOptions {
    GetOptions {
        version: Some(version.to_owned()),
        ..GetOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_dropped_is_aborted_behind_the_callers_back() {
    use futures::StreamExt;
    let world = embedded().await;
    let root = world.embedded.as_ref().expect("embedded").root().to_owned();
    let key = world.key("dropped.gz");
    // The source gives a part and a bit, and then nothing for ever.
    let source = futures::stream::iter([Ok(random(9 * 1024 * 1024))])
        .chain(futures::stream::pending())
        .boxed();
    {
        let metadata = Metadata::new();
        let put = world.repository.put_parts(&key, source, &metadata);
        let begun = wait_until(|| leftovers(&root).iter().any(|name| name.contains(".part-")));
        tokio::select! {
            result = put => panic!("ended: {result:?}"),
            () = begun => {}
        }
    }
    wait_until(|| leftovers(&root).is_empty()).await;
    assert_eq!(world.repository.head(&key).await.expect("an answer"), None);
}

async fn wait_until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), wait)
        .await
        .expect("it never came to be");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_of_more_than_a_thousand_keys_is_complete_and_skips_what_is_no_key() {
    let world = embedded().await;
    let server = world.embedded.as_ref().expect("embedded");
    let folder = server.file("walferry", &world.folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    for number in 0..1205 {
        std::fs::write(folder.join(format!("{number:08}.gz")), b"x").expect("an object");
    }
    std::fs::write(folder.join("00000500-ü.gz"), b"x").expect("an object");
    let page = async |after: Option<&Listed>, limit| {
        let after = after.map(|object| &object.key);
        let prefix = world.prefix();
        let page = world.repository.list(&prefix, after, limit).await;
        page.expect("a page")
    };
    let all = page(None, usize::MAX).await;
    assert_eq!((all.objects.len(), all.skipped, all.more), (1205, 1, false));
    assert!(all.objects.is_sorted_by(|a, b| a.key < b.key));
    let first = page(None, 1200).await;
    assert_eq!((first.objects.len(), first.more), (1200, true));
    let rest = page(first.objects.last(), 1200).await;
    assert_eq!((rest.objects.len(), rest.more), (5, false));
    assert_eq!(rest.objects[..], all.objects[1200..]);
}
