//! Two clouds, and what lies in them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use walferry_base::{
    BaseFacts, CopySettings, Patience, Progress, SliceSize, TakeError, TakeSettings, Taken, take,
};
use walferry_layout::base::TarArchive;
use walferry_pack::pool::PackPool;
use walferry_proof::{KeyPrefix, ObjectKey};
use walferry_s3::{Options, Server};
use walferry_store::{Metadata, Repository, S3Settings, s3};
use walferry_wal::{SegmentSize, SystemId};

use crate::script::Script;

pub(crate) const SLICE: usize = 64 << 10;

/// An S3 server of one test, and a repository in it.
pub(crate) struct Cloud {
    pub(crate) repository: Arc<dyn Repository>,
    _server: Server,
    _root: tempfile::TempDir,
}

impl Cloud {
    pub(crate) async fn start(name: &str) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let server = Server::start(Options::new(root.path()))
            .await
            .expect("the embedded server starts");
        let repository = s3(&S3Settings {
            name: name.parse().expect("a name"),
            endpoint: server.endpoint().parse().expect("an endpoint"),
            bucket: "walferry".to_owned(),
            region: "auto".to_owned(),
            access_key_id: "walferry-key".into(),
            secret_access_key: "walferry-secret".into(),
            allow_http: false,
            conditional_put: true,
            path_style: true,
            idle_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(30),
            ca_certificates: None,
        });
        Self {
            repository: repository.expect("good settings"),
            _server: server,
            _root: root,
        }
    }

    /// Every key in the bucket, sorted.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for folder in ["base/", "wal/"] {
            let below: KeyPrefix = folder.parse().unwrap();
            let page = self.repository.list(&below, None, 100_000).await.unwrap();
            assert!(!page.more);
            keys.extend(
                page.objects
                    .into_iter()
                    .map(|listed| listed.key.to_string()),
            );
        }
        keys.sort();
        keys
    }

    /// The object under `base/`, whole.
    pub(crate) async fn get(&self, name: &str) -> Bytes {
        let object = self.repository.get(&key(name)).await.unwrap();
        let object = object.unwrap_or_else(|| panic!("{name} is there"));
        let chunks: Vec<Bytes> = object.body.try_collect().await.unwrap();
        chunks.concat().into()
    }

    pub(crate) async fn put(&self, name: &str, body: &[u8]) {
        let md5 = walferry_proof::md5(body);
        let body = Bytes::copy_from_slice(body);
        self.repository
            .put(&key(name), body, &Metadata::new(), &md5)
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.repository.delete(&key(name)).await.unwrap();
    }

    /// What `cat <archive>/*.gz | gunzip` gives.
    pub(crate) async fn archive(&self, archive: TarArchive) -> Vec<u8> {
        let folder = format!("base/{LABEL}/{archive}/");
        let mut packed = Vec::new();
        for key in self.keys().await {
            if key.starts_with(&folder) {
                let name = key.strip_prefix("base/").unwrap();
                packed.extend_from_slice(&self.get(name).await);
            }
        }
        gunzip(&packed)
    }
}

/// Of the base that `facts` names.
pub(crate) const LABEL: &str = "20261103T193000Z";

pub(crate) fn key(name: &str) -> ObjectKey {
    format!("base/{name}").parse().expect("a key")
}

pub(crate) fn prefix() -> KeyPrefix {
    "wal/".parse().expect("a prefix")
}

pub(crate) fn gunzip(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(packed)
        .read_to_end(&mut plain)
        .expect("gzip reads it");
    plain
}

pub(crate) fn facts() -> BaseFacts {
    facts_at("2026-11-03T19:30:00.123456789Z".parse().unwrap())
}

pub(crate) fn facts_at(started_at: DateTime<Utc>) -> BaseFacts {
    BaseFacts {
        cluster: "main".to_owned(),
        prefix: prefix(),
        system_id: SystemId::new(7_123_456_789_012_345_678),
        segment_size: SegmentSize::DEFAULT,
        server_version: 150_018,
        from_standby: false,
        started_at,
        clock_ahead: TimeDelta::seconds(3),
    }
}

/// Small slices, little patience.
pub(crate) fn settings() -> TakeSettings {
    TakeSettings {
        slice_size: SliceSize::try_from(SLICE as u64).unwrap(),
        level: 1,
        stall: Duration::from_secs(20),
        patience: Patience {
            attempts: 3,
            wait: Duration::from_millis(10),
        },
        ..TakeSettings::new(PackPool::start(2).unwrap())
    }
}

pub(crate) fn copy_settings() -> CopySettings {
    CopySettings {
        pool: PackPool::start(1).unwrap(),
        transfers: 3,
        stall: Duration::from_secs(20),
        patience: Patience {
            attempts: 3,
            wait: Duration::from_millis(10),
        },
    }
}

/// Takes what `script` sends.
pub(crate) async fn taken(
    script: Script,
    repositories: &[Arc<dyn Repository>],
) -> Result<Taken, TakeError> {
    taken_with(script, repositories, &settings()).await
}

pub(crate) async fn taken_with(
    script: Script,
    repositories: &[Arc<dyn Repository>],
    settings: &TakeSettings,
) -> Result<Taken, TakeError> {
    let progress = watch::Sender::new(Progress::default());
    let cancel = CancellationToken::new();
    take(script, facts(), repositories, settings, &progress, &cancel).await
}

/// Two clouds with the same base, complete in both.
pub(crate) async fn two_with_a_base() -> (Cloud, Cloud, Taken) {
    let (r2, b2) = (Cloud::start("r2").await, Cloud::start("b2").await);
    let both = [Arc::clone(&r2.repository), Arc::clone(&b2.repository)];
    let taken = taken(Script::usual(), &both).await.expect("it is taken");
    (r2, b2, taken)
}

/// Content that hardly packs, the same for the same seed.
pub(crate) fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..))
        .take(size)
        .collect()
}

/// How many slices each archive has.
pub(crate) fn slices_of(taken: &Taken) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for slice in &taken.base.slices {
        *counts.entry(slice.archive.to_string()).or_default() += 1;
    }
    counts
}
