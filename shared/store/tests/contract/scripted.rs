//! A repository that does as it is told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;
use walferry_proof::{KeyPrefix, Md5, ObjectKey, RepositoryName};
use walferry_store::{
    At, Deleted, Metadata, ObjectFacts, ObjectStream, Page, PutNew, ReadRepository, Repository,
    Said, StoreError,
};

/// What it answers to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Bodies break after their first chunk.
    BreaksBodies,
    Refuses,
    /// `put` is rejected with this status, for reasons of its own.
    Status(u16),
    /// HTTP 503 that says when to ask again.
    Unavailable {
        retry_after: Duration,
    },
    /// Never answers.
    Hangs,
}

pub(crate) struct Scripted {
    name: RepositoryName,
    mood: Mutex<Mood>,
    asked: AtomicUsize,
}

impl Scripted {
    pub(crate) fn new(mood: Mood) -> Self {
        Self {
            name: "r2".parse().expect("a name"),
            mood: Mutex::new(mood),
            asked: AtomicUsize::new(0),
        }
    }

    pub(crate) fn turn(&self, mood: Mood) {
        *self.mood.lock().expect("a mood") = mood;
    }

    /// Requests that came through so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn answer<T>(&self, operation: &'static str, well: T) -> Result<T, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().expect("a mood");
        let at = At::new(&self.name, operation, None);
        let said = |status| Said::new(status, "", "");
        match mood {
            Mood::Well | Mood::BreaksBodies => Ok(well),
            Mood::Refuses => Err(StoreError::Refused {
                at,
                source: "nobody listens".into(),
            }),
            Mood::Status(429 | 503) => Err(StoreError::Throttled {
                at,
                said: said(if mood == Mood::Status(429) { 429 } else { 503 }),
                retry_after: None,
            }),
            Mood::Unavailable { retry_after } => Err(StoreError::Throttled {
                at,
                said: said(503),
                retry_after: Some(retry_after),
            }),
            Mood::Status(status) => Err(StoreError::Rejected {
                at,
                said: said(status),
            }),
            Mood::Hangs => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ReadRepository for Scripted {
    fn name(&self) -> &RepositoryName {
        &self.name
    }

    async fn head(&self, _: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError> {
        self.answer("head", None).await
    }

    async fn get(&self, _: &ObjectKey) -> Result<Option<ObjectStream>, StoreError> {
        let breaks = *self.mood.lock().expect("a mood") == Mood::BreaksBodies;
        let error = StoreError::Interrupted {
            at: At::new(&self.name, "get", None),
            source: "cut".into(),
        };
        let second = if breaks { Err(error) } else { Ok("def".into()) };
        let chunks: Vec<Result<Bytes, StoreError>> = vec![Ok("abc".into()), second];
        let stream = ObjectStream {
            facts: ObjectFacts {
                size: 6,
                etag: None,
                last_modified: Utc::now(),
                metadata: Metadata::new(),
            },
            body: futures::stream::iter(chunks).boxed(),
        };
        self.answer("get", Some(stream)).await
    }

    async fn list(
        &self,
        _: &KeyPrefix,
        _: Option<&ObjectKey>,
        _: usize,
    ) -> Result<Page, StoreError> {
        self.answer("list", Page::default()).await
    }

    async fn clock(&self) -> Result<DateTime<Utc>, StoreError> {
        self.answer("clock", Utc::now()).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.answer("probe", ()).await
    }
}

#[async_trait]
impl Repository for Scripted {
    async fn put(&self, _: &ObjectKey, _: Bytes, _: &Metadata, _: &Md5) -> Result<(), StoreError> {
        self.answer("put", ()).await
    }

    async fn put_new(
        &self,
        _: &ObjectKey,
        _: Bytes,
        _: &Metadata,
        _: &Md5,
    ) -> Result<PutNew, StoreError> {
        self.answer("put-new", PutNew::Created(None)).await
    }

    async fn put_parts(
        &self,
        _: &ObjectKey,
        parts: BoxStream<'_, Result<Bytes, StoreError>>,
        _: &Metadata,
    ) -> Result<String, StoreError> {
        let parts = parts.count().await;
        self.answer("put-parts", format!("etag-{parts}")).await
    }

    async fn delete(&self, _: &ObjectKey) -> Result<Deleted, StoreError> {
        self.answer("delete", Deleted::default()).await
    }
}
