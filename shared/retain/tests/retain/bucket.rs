//! A versioned bucket in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, watch};
use walferry_proof::{KeyPrefix, Md5, ObjectKey, RepositoryName};
use walferry_store::{
    At, Deleted, Listed, Metadata, ObjectFacts, ObjectStream, Page, PutNew, ReadRepository,
    Repository, StoreError,
};

pub(crate) struct Bucket {
    name: RepositoryName,
    objects: Mutex<BTreeMap<ObjectKey, Vec<Bytes>>>,
    settings: Mutex<Settings>,
    /// How many deletes have arrived, let through or not.
    pub(crate) arrived: watch::Sender<usize>,
    gate: Semaphore,
}

#[derive(Default)]
struct Settings {
    ahead: TimeDelta,
    /// Operations that fail as if nobody answered.
    broken: Vec<&'static str>,
    gated: bool,
    deletes: Vec<ObjectKey>,
}

impl Bucket {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.parse().unwrap(),
            objects: Mutex::default(),
            settings: Mutex::default(),
            arrived: watch::Sender::new(0),
            gate: Semaphore::new(0),
        })
    }

    pub(crate) fn set_ahead(&self, by: TimeDelta) {
        self.settings.lock().unwrap().ahead = by;
    }

    /// Makes these operations fail; `&[]` mends everything.
    pub(crate) fn break_down(&self, operations: &[&'static str]) {
        self.settings.lock().unwrap().broken = operations.to_vec();
    }

    /// From now on deletes wait for `let_through`.
    pub(crate) fn close_gate(&self) {
        self.settings.lock().unwrap().gated = true;
    }

    pub(crate) fn let_through(&self, deletes: usize) {
        self.gate.add_permits(deletes);
    }

    pub(crate) async fn wait_for_deletes(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        arrived.wait_for(|seen| *seen >= count).await.unwrap();
    }

    pub(crate) fn insert(&self, key: &str, size: usize) {
        let body = Bytes::from(vec![7; size]);
        let key = key.parse().unwrap();
        self.objects
            .lock()
            .unwrap()
            .entry(key)
            .or_default()
            .push(body);
    }

    pub(crate) fn remove(&self, key: &str) {
        let key: ObjectKey = key.parse().unwrap();
        assert!(self.objects.lock().unwrap().remove(&key).is_some());
    }

    pub(crate) fn text(&self, key: &str) -> String {
        let key: ObjectKey = key.parse().unwrap();
        let objects = self.objects.lock().unwrap();
        String::from_utf8(objects[&key].last().unwrap().to_vec()).unwrap()
    }

    /// Keys of what is there, without the prefix `wal/` and the suffix `.gz`, marks left out, sorted as names are.
    pub(crate) fn names(&self) -> Vec<String> {
        let objects = self.objects.lock().unwrap();
        let names = objects.keys().filter_map(|key| {
            let name = key.as_str().strip_prefix("wal/")?.strip_suffix(".gz")?;
            Some(name.to_owned())
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.objects
            .lock()
            .unwrap()
            .keys()
            .map(ToString::to_string)
            .collect()
    }

    /// Every key that a delete was asked for, in order.
    pub(crate) fn deletes(&self) -> Vec<String> {
        let settings = self.settings.lock().unwrap();
        settings.deletes.iter().map(ToString::to_string).collect()
    }

    fn fail(&self, operation: &'static str, key: Option<&ObjectKey>) -> Result<(), StoreError> {
        if !self.settings.lock().unwrap().broken.contains(&operation) {
            return Ok(());
        }
        Err(StoreError::Refused {
            at: At::new(&self.name, operation, key),
            source: "connection refused by the test".into(),
        })
    }

    fn facts(body: &Bytes) -> ObjectFacts {
        ObjectFacts {
            size: body.len() as u64,
            etag: None,
            last_modified: DateTime::UNIX_EPOCH,
            metadata: Metadata::new(),
        }
    }
}

#[async_trait]
impl ReadRepository for Bucket {
    fn name(&self) -> &RepositoryName {
        &self.name
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError> {
        self.fail("head", Some(key))?;
        let objects = self.objects.lock().unwrap();
        Ok(objects.get(key).and_then(|v| v.last()).map(Self::facts))
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<ObjectStream>, StoreError> {
        self.fail("get", Some(key))?;
        let objects = self.objects.lock().unwrap();
        Ok(objects
            .get(key)
            .and_then(|v| v.last())
            .map(|body| ObjectStream {
                facts: Self::facts(body),
                body: futures::stream::iter([Ok(body.clone())]).boxed(),
            }))
    }

    async fn list(
        &self,
        prefix: &KeyPrefix,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.fail("list", None)?;
        let objects = self.objects.lock().unwrap();
        // Small pages, so that every listing has several.
        let limit = limit.min(7);
        let mut below: Vec<Listed> = objects
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(prefix.as_str()))
            .filter(|(key, _)| after.is_none_or(|after| *key > after))
            .take(limit + 1)
            .map(|(key, versions)| Listed {
                key: key.clone(),
                size: versions.last().unwrap().len() as u64,
                last_modified: DateTime::UNIX_EPOCH,
                etag: None,
            })
            .collect();
        let more = below.len() > limit;
        below.truncate(limit);
        Ok(Page {
            objects: below,
            skipped: 0,
            more,
        })
    }

    async fn clock(&self) -> Result<DateTime<Utc>, StoreError> {
        self.fail("clock", None)?;
        Ok(Utc::now() + self.settings.lock().unwrap().ahead)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.fail("probe", None)
    }
}

#[async_trait]
impl Repository for Bucket {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        _: &Metadata,
        md5: &Md5,
    ) -> Result<(), StoreError> {
        self.fail("put", Some(key))?;
        assert_eq!(walferry_proof::md5(&body), *md5);
        let mut objects = self.objects.lock().unwrap();
        objects.entry(key.clone()).or_default().push(body);
        Ok(())
    }

    async fn put_new(
        &self,
        _: &ObjectKey,
        _: Bytes,
        _: &Metadata,
        _: &Md5,
    ) -> Result<PutNew, StoreError> {
        unreachable!("retention creates nothing new")
    }

    async fn put_parts(
        &self,
        _: &ObjectKey,
        _: BoxStream<'_, Result<Bytes, StoreError>>,
        _: &Metadata,
    ) -> Result<String, StoreError> {
        unreachable!("retention uploads nothing large")
    }

    async fn delete(&self, key: &ObjectKey) -> Result<Deleted, StoreError> {
        let gated = {
            let mut settings = self.settings.lock().unwrap();
            settings.deletes.push(key.clone());
            settings.gated
        };
        self.arrived.send_modify(|arrived| *arrived += 1);
        if gated {
            self.gate.acquire().await.unwrap().forget();
        }
        self.fail("delete", Some(key))?;
        let versions = self.objects.lock().unwrap().remove(key);
        let versions = versions.map_or(0, |versions| versions.len() as u32);
        Ok(Deleted { versions })
    }
}
