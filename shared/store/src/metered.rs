//! Tells an observer about every request: how it ended, how long it took, how many bytes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;
use walferry_proof::{KeyPrefix, Md5, ObjectKey, RepositoryName};

use crate::{
    Deleted, Metadata, ObjectFacts, ObjectStream, Page, PutNew, ReadRepository, Repository,
    StoreError,
};

/// Where measurements go. Called on the async runtime: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// One request ended.
    ///
    /// `operation` and `outcome` are of bounded sets: `ok`, a `StoreError::cause()`, or
    /// `dropped` if the caller went away. `bytes` are those of the object that moved.
    fn request(
        &self,
        repository: &RepositoryName,
        operation: &'static str,
        outcome: &'static str,
        elapsed: Duration,
        bytes: u64,
    );
}

/// Decorator that measures.
pub struct Metered {
    inner: Arc<dyn Repository>,
    observer: Arc<dyn Observer>,
}

impl Metered {
    pub fn new(inner: Arc<dyn Repository>, observer: Arc<dyn Observer>) -> Self {
        Self { inner, observer }
    }

    fn start(&self, operation: &'static str) -> Measure {
        Measure {
            observer: Arc::clone(&self.observer),
            repository: self.inner.name().clone(),
            operation,
            start: Instant::now(),
            outcome: "dropped",
            bytes: Arc::default(),
        }
    }

    async fn measure<T>(
        &self,
        operation: &'static str,
        bytes: usize,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let mut measure = self.start(operation);
        let result = work.await;
        if result.is_ok() {
            measure.add(bytes);
        }
        measure.ended(&result);
        result
    }
}

#[async_trait]
impl ReadRepository for Metered {
    fn name(&self) -> &RepositoryName {
        self.inner.name()
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError> {
        self.measure("head", 0, self.inner.head(key)).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<ObjectStream>, StoreError> {
        let mut measure = self.start("get");
        match self.inner.get(key).await {
            Ok(Some(stream)) => Ok(Some(ObjectStream {
                facts: stream.facts,
                body: watch(measure, stream.body),
            })),
            other => {
                measure.ended(&other);
                other
            }
        }
    }

    async fn list(
        &self,
        prefix: &KeyPrefix,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.measure("list", 0, self.inner.list(prefix, after, limit))
            .await
    }

    async fn clock(&self) -> Result<DateTime<Utc>, StoreError> {
        self.measure("clock", 0, self.inner.clock()).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.measure("probe", 0, self.inner.probe()).await
    }
}

#[async_trait]
impl Repository for Metered {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        md5: &Md5,
    ) -> Result<(), StoreError> {
        let bytes = body.len();
        self.measure("put", bytes, self.inner.put(key, body, metadata, md5))
            .await
    }

    async fn put_new(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        md5: &Md5,
    ) -> Result<PutNew, StoreError> {
        let bytes = body.len();
        let put = self.inner.put_new(key, body, metadata, md5);
        self.measure("put-new", bytes, put).await
    }

    async fn put_parts(
        &self,
        key: &ObjectKey,
        parts: BoxStream<'_, Result<Bytes, StoreError>>,
        metadata: &Metadata,
    ) -> Result<String, StoreError> {
        let mut measure = self.start("put-parts");
        let bytes = Arc::clone(&measure.bytes);
        let parts = parts
            .inspect(move |part| {
                let size = part.as_ref().map_or(0, Bytes::len);
                bytes.fetch_add(size as u64, Ordering::Relaxed);
            })
            .boxed();
        let result = self.inner.put_parts(key, parts, metadata).await;
        measure.ended(&result);
        result
    }

    async fn delete(&self, key: &ObjectKey) -> Result<Deleted, StoreError> {
        self.measure("delete", 0, self.inner.delete(key)).await
    }
}

fn watch(
    measure: Measure,
    body: BoxStream<'static, Result<Bytes, StoreError>>,
) -> BoxStream<'static, Result<Bytes, StoreError>> {
    futures::stream::unfold((measure, body), |(mut measure, mut body)| async move {
        match body.next().await {
            Some(result) => {
                match &result {
                    Ok(chunk) => measure.add(chunk.len()),
                    Err(error) => measure.outcome = error.cause(),
                }
                Some((result, (measure, body)))
            }
            None => {
                if measure.outcome == "dropped" {
                    measure.ended(&Ok(()));
                }
                None
            }
        }
    })
    .boxed()
}

/// Reports when it goes out of scope, however that comes.
struct Measure {
    observer: Arc<dyn Observer>,
    repository: RepositoryName,
    operation: &'static str,
    start: Instant,
    outcome: &'static str,
    bytes: Arc<AtomicU64>,
}

impl Measure {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn ended<T>(&mut self, result: &Result<T, StoreError>) {
        self.outcome = match result {
            Ok(_) => "ok",
            Err(error) => error.cause(),
        };
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        self.observer.request(
            &self.repository,
            self.operation,
            self.outcome,
            self.start.elapsed(),
            self.bytes.load(Ordering::Relaxed),
        );
    }
}
