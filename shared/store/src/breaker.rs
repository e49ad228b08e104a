//! Spares everybody the wait for a repository that is down.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::Instant;
use walferry_proof::{KeyPrefix, Md5, ObjectKey, RepositoryName};

use crate::{
    At, Deleted, Metadata, ObjectFacts, ObjectStream, Page, PutNew, ReadRepository, Repository,
    StoreError,
};

/// Decorator that stops asking a repository after a row of failures that are its own, and
/// lets a single request through now and then until one succeeds.
///
/// Reading and writing have a circuit each: where a full bucket refuses every PUT, restore
/// still reads, and good answers to HEADs do not hide that no PUT gets through. `probe` is
/// always made, whatever the state, and its answer counts for reading.
pub struct Breaker {
    inner: Arc<dyn Repository>,
    read: Arc<Circuit>,
    write: Arc<Circuit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// First wait; doubles with every further failure.
    pub first_wait: Duration,
    /// Longest wait, jitter included.
    pub longest_wait: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    /// Requests fail at once.
    Open {
        since: DateTime<Utc>,
        until: DateTime<Utc>,
        cause: &'static str,
    },
    /// The next request goes through, or is on its way.
    HalfOpen {
        since: DateTime<Utc>,
        cause: &'static str,
    },
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 3,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(30),
        }
    }
}

impl BreakerSettings {
    /// How long it stays open: not shorter than `asked`, never longer than the longest wait.
    fn open_for(&self, wait: Duration, asked: Option<Duration>) -> Duration {
        jittered(wait)
            .max(asked.unwrap_or_default())
            .min(self.longest_wait)
    }
}

impl Breaker {
    pub fn new(inner: Arc<dyn Repository>, settings: BreakerSettings) -> Self {
        Self {
            inner,
            read: Arc::new(Circuit::new(settings)),
            write: Arc::new(Circuit::new(settings)),
        }
    }

    /// The worse of reading and writing.
    pub fn state(&self) -> BreakerState {
        let (write, read) = (self.write_state(), self.read_state());
        match (&write, &read) {
            (BreakerState::Open { .. }, _) | (_, BreakerState::Closed) => write,
            (_, BreakerState::Open { .. }) | (BreakerState::Closed, _) => read,
            (BreakerState::HalfOpen { .. }, BreakerState::HalfOpen { .. }) => write,
        }
    }

    pub fn read_state(&self) -> BreakerState {
        self.read.state()
    }

    pub fn write_state(&self) -> BreakerState {
        self.write.state()
    }

    async fn guard<T>(
        &self,
        circuit: &Arc<Circuit>,
        operation: &'static str,
        key: Option<&ObjectKey>,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let permit = circuit.admit(|| At::new(self.inner.name(), operation, key))?;
        permit.settle(work.await)
    }
}

#[async_trait]
impl ReadRepository for Breaker {
    fn name(&self) -> &RepositoryName {
        self.inner.name()
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError> {
        self.guard(&self.read, "head", Some(key), self.inner.head(key))
            .await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<ObjectStream>, StoreError> {
        let permit = self
            .read
            .admit(|| At::new(self.inner.name(), "get", Some(key)))?;
        match self.inner.get(key).await {
            Ok(Some(stream)) => Ok(Some(ObjectStream {
                facts: stream.facts,
                body: watch(permit, stream.body),
            })),
            other => permit.settle(other),
        }
    }

    async fn list(
        &self,
        prefix: &KeyPrefix,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let list = self.inner.list(prefix, after, limit);
        self.guard(&self.read, "list", None, list).await
    }

    async fn clock(&self) -> Result<DateTime<Utc>, StoreError> {
        self.guard(&self.read, "clock", None, self.inner.clock())
            .await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let permit = Permit {
            circuit: Arc::clone(&self.read),
            probing: false,
        };
        permit.settle(self.inner.probe().await)
    }
}

#[async_trait]
impl Repository for Breaker {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        md5: &Md5,
    ) -> Result<(), StoreError> {
        let put = self.inner.put(key, body, metadata, md5);
        self.guard(&self.write, "put", Some(key), put).await
    }

    async fn put_new(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        md5: &Md5,
    ) -> Result<PutNew, StoreError> {
        let put = self.inner.put_new(key, body, metadata, md5);
        self.guard(&self.write, "put-new", Some(key), put).await
    }

    async fn put_parts(
        &self,
        key: &ObjectKey,
        parts: BoxStream<'_, Result<Bytes, StoreError>>,
        metadata: &Metadata,
    ) -> Result<String, StoreError> {
        let put = self.inner.put_parts(key, parts, metadata);
        self.guard(&self.write, "put-parts", Some(key), put).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<Deleted, StoreError> {
        self.guard(&self.write, "delete", Some(key), self.inner.delete(key))
            .await
    }
}

/// A download has succeeded when its last byte is here, and only then.
fn watch(
    permit: Permit,
    body: BoxStream<'static, Result<Bytes, StoreError>>,
) -> BoxStream<'static, Result<Bytes, StoreError>> {
    let start = (Some(permit), body);
    futures::stream::unfold(start, |(mut permit, mut body)| async move {
        match (body.next().await, permit.take()) {
            (Some(Ok(chunk)), permit) => Some((Ok(chunk), (permit, body))),
            (Some(Err(error)), Some(permit)) => Some((permit.settle(Err(error)), (None, body))),
            (Some(Err(error)), None) => Some((Err(error), (None, body))),
            (None, Some(permit)) => {
                // Settling a success returns it; there is nothing in it.
                let _ = permit.settle(Ok(()));
                None
            }
            (None, None) => None,
        }
    })
    .boxed()
}

struct Circuit {
    settings: BreakerSettings,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// In a row, while closed.
    failures: u32,
    open: Option<Open>,
}

struct Open {
    since: DateTime<Utc>,
    until: Instant,
    wait: Duration,
    cause: &'static str,
    /// The one request that may go through is on its way.
    probing: bool,
}

/// Leave to make one request. Dropped unsettled, it proves nothing and blocks nobody.
struct Permit {
    circuit: Arc<Circuit>,
    probing: bool,
}

impl Circuit {
    fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is a plain assignment, so a poisoned state is a whole one.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(self: &Arc<Self>, at: impl FnOnce() -> At) -> Result<Permit, StoreError> {
        let mut inner = self.lock();
        let probing = match &mut inner.open {
            None => false,
            Some(open) => {
                let wait = open.until.saturating_duration_since(Instant::now());
                if open.probing || !wait.is_zero() {
                    // While the probe is out nobody knows; ask again after a first wait.
                    let wait = wait.max(self.settings.first_wait.min(open.wait));
                    return Err(StoreError::BreakerOpen {
                        at: at(),
                        until: after(wait),
                        wait,
                        cause: open.cause,
                    });
                }
                open.probing = true;
                true
            }
        };
        Ok(Permit {
            circuit: Arc::clone(self),
            probing,
        })
    }

    fn state(&self) -> BreakerState {
        match &self.lock().open {
            None => BreakerState::Closed,
            Some(open) => {
                let wait = open.until.saturating_duration_since(Instant::now());
                if wait.is_zero() || open.probing {
                    return BreakerState::HalfOpen {
                        since: open.since,
                        cause: open.cause,
                    };
                }
                BreakerState::Open {
                    since: open.since,
                    until: after(wait),
                    cause: open.cause,
                }
            }
        }
    }

    /// `asked` is when the repository itself wants to be asked again.
    fn failed(&self, cause: &'static str, asked: Option<Duration>, probing: bool) {
        let mut inner = self.lock();
        let failures = inner.failures.saturating_add(1);
        inner.failures = failures;
        let settings = self.settings;
        match &mut inner.open {
            Some(open) if probing => {
                open.wait = (open.wait * 2).min(settings.longest_wait);
                open.until = Instant::now() + settings.open_for(open.wait, asked);
                open.cause = cause;
                open.probing = false;
            }
            // Begun before it opened, ended after: tells nothing new.
            Some(_) => {}
            None if failures >= settings.failures => {
                let wait = settings.first_wait.min(settings.longest_wait);
                inner.open = Some(Open {
                    since: Utc::now(),
                    until: Instant::now() + settings.open_for(wait, asked),
                    wait,
                    cause,
                    probing: false,
                });
            }
            None => {}
        }
    }
}

impl Permit {
    fn settle<T>(mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Err(error) if error.blames_repository() => {
                let probing = std::mem::take(&mut self.probing);
                self.circuit
                    .failed(error.cause(), error.retry_after(), probing);
            }
            // Neither came to the repository's ears.
            Err(StoreError::Upload { .. } | StoreError::Configuration { .. }) => {}
            Ok(_) | Err(_) => {
                self.probing = false;
                *self.circuit.lock() = Inner::default();
            }
        }
        result
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probing
            && let Some(open) = &mut self.circuit.lock().open
        {
            open.probing = false;
        }
    }
}

/// Up to a quarter shorter, so that many workers do not come back in step.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 - fastrand::f64() / 4.0)
}

fn after(wait: Duration) -> DateTime<Utc> {
    Utc::now() + TimeDelta::from_std(wait).unwrap_or(TimeDelta::zero())
}
