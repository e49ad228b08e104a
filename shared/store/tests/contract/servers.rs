//! The servers that the suite runs against, and repositories on them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use walferry_s3::{Options, Seaweed, SeaweedOptions, Server};
use walferry_store::{ReadRepository, Repository, S3Settings, s3};

use crate::{SECRET, key};

/// A fresh corner of a server.
pub(crate) struct World {
    pub(crate) settings: S3Settings,
    pub(crate) repository: Arc<dyn Repository>,
    /// Ends in a slash and is used by nobody else.
    pub(crate) folder: String,
    /// The embedded server, if it is that one.
    pub(crate) embedded: Option<Server>,
    _root: Option<tempfile::TempDir>,
}

/// s3s-fs, for this test alone.
pub(crate) async fn embedded() -> World {
    let root = tempfile::tempdir().expect("a folder");
    let server = Server::start(Options {
        secret_key: SECRET.to_owned(),
        ..Options::new(root.path())
    })
    .await
    .expect("the embedded server starts");
    let settings = settings(&server.endpoint(), "walferry");
    World::new(settings, Some(server), Some(root))
}

/// SeaweedFS, shared by all tests, with a bucket that has no versions.
pub(crate) fn seaweedfs() -> World {
    World::new(settings(&seaweed().endpoint(), "plain"), None, None)
}

/// The same with a versioned bucket.
pub(crate) fn seaweedfs_versioned() -> World {
    World::new(settings(&seaweed().endpoint(), "versioned"), None, None)
}

/// Settings that fit the servers here; patience that fits a loaded machine.
pub(crate) fn settings(endpoint: &str, bucket: &str) -> S3Settings {
    S3Settings {
        name: "r2".parse().expect("a name"),
        endpoint: endpoint.parse().expect("an endpoint"),
        bucket: bucket.to_owned(),
        region: "auto".to_owned(),
        access_key_id: "walferry-key".into(),
        secret_access_key: SECRET.into(),
        allow_http: false,
        conditional_put: true,
        path_style: true,
        idle_timeout: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(30),
        ca_certificates: None,
    }
}

pub(crate) fn open(settings: &S3Settings) -> Arc<dyn Repository> {
    s3(settings).expect("good settings")
}

impl World {
    fn new(
        settings: S3Settings,
        embedded: Option<Server>,
        root: Option<tempfile::TempDir>,
    ) -> Self {
        Self {
            repository: open(&settings),
            settings,
            folder: format!("wal-{:016x}/", fastrand::u64(..)),
            embedded,
            _root: root,
        }
    }

    pub(crate) fn key(&self, name: &str) -> walferry_proof::ObjectKey {
        key(&format!("{}{name}", self.folder))
    }

    pub(crate) fn prefix(&self) -> walferry_proof::KeyPrefix {
        crate::prefix(&self.folder)
    }

    /// The same repository with something changed.
    pub(crate) fn with(&self, change: impl FnOnce(&mut S3Settings)) -> Arc<dyn Repository> {
        let mut settings = self.settings.clone();
        change(&mut settings);
        open(&settings)
    }

    /// A client that does what ours does not.
    pub(crate) fn bare(&self) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_endpoint(self.settings.endpoint.as_str())
            .with_bucket_name(&self.settings.bucket)
            .with_region("auto")
            .with_access_key_id("walferry-key")
            .with_secret_access_key(SECRET)
            .with_allow_http(true)
            .with_disable_bulk_delete(true)
            .build()
            .expect("good settings")
    }
}

/// A whole object.
pub(crate) async fn read(
    repository: &(impl ReadRepository + ?Sized),
    key: &walferry_proof::ObjectKey,
) -> Vec<u8> {
    let stream = repository.get(key).await.expect("an answer");
    let chunks: Vec<_> = stream
        .expect("an object")
        .body
        .try_collect()
        .await
        .expect("all of it");
    chunks.concat()
}

fn seaweed() -> &'static Seaweed {
    static SEAWEED: OnceLock<Seaweed> = OnceLock::new();
    SEAWEED.get_or_init(|| {
        let mut options = SeaweedOptions::new(fresh_folder());
        options.secret_key = SECRET.to_owned();
        options.buckets = vec!["plain".to_owned()];
        options.versioned_buckets = vec!["versioned".to_owned()];
        Seaweed::start_blocking(options).expect("SeaweedFS starts")
    })
}

/// Nothing runs when a test binary ends, so the next one clears up behind the last.
fn fresh_folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seaweedfs");
    std::fs::create_dir_all(&folder).expect("a folder");
    for old in std::fs::read_dir(&folder).expect("a folder").flatten() {
        if !Path::new("/proc").join(old.file_name()).exists() {
            // Somebody else may be at it as well.
            #[expect(clippy::disallowed_methods, reason = "a folder of an earlier test")]
            let _ = std::fs::remove_dir_all(old.path());
        }
    }
    folder.join(std::process::id().to_string())
}
