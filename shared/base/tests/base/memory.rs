//! How much of a base is in memory at once: counted between the server and a slow cloud.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use tokio::sync::Mutex;
use walferry_base::{BaseSource, SourceError, SourceEvent, SourceStart, SourceTablespace};
use walferry_base::{SliceSize, TakeSettings};
use walferry_layout::base::TarArchive;
use walferry_pack::pool::PackPool;
use walferry_proof::{KeyPrefix, Md5, ObjectKey, RepositoryName};
use walferry_store::{
    Deleted, Listed, Metadata, ObjectFacts, ObjectStream, Page, PutNew, ReadRepository, Repository,
    StoreError,
};

use crate::clouds::{facts, noise, settings};
use crate::script::Script;

/// Bytes that the server has sent, and of these the ones that all clouds have.
#[derive(Default)]
struct Meter {
    sent: AtomicU64,
    stored: AtomicU64,
    most: AtomicU64,
    /// How many clouds have a slice.
    copies: Mutex<BTreeMap<String, usize>>,
}

/// A cloud in memory that takes its time, and counts.
struct Slow {
    name: RepositoryName,
    pause: Duration,
    clouds: usize,
    meter: Arc<Meter>,
    under_way: AtomicUsize,
    most: AtomicUsize,
    objects: Mutex<BTreeMap<ObjectKey, (Bytes, Metadata)>>,
}

impl Slow {
    fn new(name: &str, pause: Duration, meter: &Arc<Meter>) -> Arc<Self> {
        Arc::new(Self {
            name: name.parse().unwrap(),
            pause,
            clouds: 2,
            meter: Arc::clone(meter),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            objects: Mutex::default(),
        })
    }

    fn facts((body, metadata): &(Bytes, Metadata)) -> ObjectFacts {
        ObjectFacts {
            size: body.len() as u64,
            etag: Some(walferry_proof::md5(body).to_string()),
            last_modified: DateTime::UNIX_EPOCH,
            metadata: metadata.clone(),
        }
    }
}

#[async_trait]
impl ReadRepository for Slow {
    fn name(&self) -> &RepositoryName {
        &self.name
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError> {
        let found = self.objects.lock().await.get(key).map(Self::facts);
        // It is verified by this HEAD, and let go of afterwards.
        if let Some(facts) = &found
            && key.as_str().contains(".tar/")
        {
            let mut copies = self.meter.copies.lock().await;
            let count = copies.entry(key.to_string()).or_default();
            *count += 1;
            if *count == self.clouds {
                let size: u64 = facts.metadata["wf-size"].parse().unwrap();
                self.meter.stored.fetch_add(size, Ordering::SeqCst);
            }
        }
        Ok(found)
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<ObjectStream>, StoreError> {
        Ok(self
            .objects
            .lock()
            .await
            .get(key)
            .map(|object| ObjectStream {
                facts: Self::facts(object),
                body: Box::pin(futures::stream::iter([Ok(object.0.clone())])),
            }))
    }

    async fn list(
        &self,
        prefix: &KeyPrefix,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let objects = self.objects.lock().await;
        let mut found: Vec<Listed> = objects
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(prefix.as_str()))
            .filter(|(key, _)| after.is_none_or(|after| *key > after))
            .take(limit + 1)
            .map(|(key, object)| Listed {
                key: key.clone(),
                size: object.0.len() as u64,
                last_modified: DateTime::UNIX_EPOCH,
                etag: Self::facts(object).etag,
            })
            .collect();
        let more = found.len() > limit;
        found.truncate(limit);
        Ok(Page {
            objects: found,
            skipped: 0,
            more,
        })
    }

    async fn clock(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(Utc::now())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Repository for Slow {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        _: &Md5,
    ) -> Result<(), StoreError> {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(self.pause).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        let object = (body, metadata.clone());
        self.objects.lock().await.insert(key.clone(), object);
        Ok(())
    }

    async fn put_new(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        _: &Md5,
    ) -> Result<PutNew, StoreError> {
        let object = (body, metadata.clone());
        self.objects.lock().await.insert(key.clone(), object);
        Ok(PutNew::Created(None))
    }

    async fn put_parts(
        &self,
        _: &ObjectKey,
        _: BoxStream<'_, Result<Bytes, StoreError>>,
        _: &Metadata,
    ) -> Result<String, StoreError> {
        unreachable!("slices are single PUTs")
    }

    async fn delete(&self, key: &ObjectKey) -> Result<Deleted, StoreError> {
        let gone = self.objects.lock().await.remove(key);
        Ok(Deleted {
            versions: gone.map_or(0, |_| 1),
        })
    }
}

/// A server that counts what it sends.
struct Metered {
    inner: Script,
    meter: Arc<Meter>,
}

#[async_trait]
impl BaseSource for Metered {
    fn start(&self) -> SourceStart {
        self.inner.start()
    }

    fn tablespaces(&self) -> Vec<SourceTablespace> {
        self.inner.tablespaces()
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        let event = self.inner.next().await?;
        if let SourceEvent::Data(bytes) = &event {
            let meter = &self.meter;
            let sent = meter.sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            let held = sent + bytes.len() as u64 - meter.stored.load(Ordering::SeqCst);
            meter.most.fetch_max(held, Ordering::SeqCst);
        }
        Ok(event)
    }
}

#[tokio::test]
async fn no_more_is_in_memory_than_the_settings_allow() {
    const SLICE: u64 = 16 << 10;
    const PORTION: usize = 1000;
    for (limit, threads) in [(None, 2), (Some(9 * SLICE), 2), (Some(1), 1)] {
        let meter = Arc::new(Meter::default());
        let quick = Slow::new("r2", Duration::from_millis(1), &meter);
        let slow = Slow::new("b2", Duration::from_millis(10), &meter);
        let settings = TakeSettings {
            pool: PackPool::start(threads).unwrap(),
            slice_size: SliceSize::try_from(SLICE).unwrap(),
            memory_limit: limit,
            uploads: 3,
            ..settings()
        };
        // It does not pack, so that packed slices are as large as others.
        let archives = [(TarArchive::Base, noise(100 * SLICE as usize, 5))].into();
        let source = Metered {
            inner: Script::sending(&archives, PORTION),
            meter: Arc::clone(&meter),
        };
        let both: [Arc<dyn Repository>; 2] = [slow.clone(), quick];
        let progress = tokio::sync::watch::Sender::default();
        let cancel = tokio_util::sync::CancellationToken::new();
        let taken =
            walferry_base::take(source, facts(), &both, &settings, &progress, &cancel).await;
        assert_eq!(taken.unwrap().complete_in.len(), 2);
        let bound = settings.memory_bound();
        let most = meter.most.load(Ordering::SeqCst);
        // What a thread packs into is part of the bound and not of what was sent.
        let packing = threads as u64 * (SLICE * 1001 / 1000 + 1024);
        assert!(
            most <= bound - packing + PORTION as u64,
            "{most} of {bound}"
        );
        assert!(most >= (bound - packing) / 2, "{most} of {bound} was used");
        assert!(slow.most.load(Ordering::SeqCst) <= 3);
    }
}
