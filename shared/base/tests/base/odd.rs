//! A repository that misbehaves as a test asks it to, in front of a real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use walferry_proof::{KeyPrefix, Md5, ObjectKey, RepositoryName};
use walferry_store::{
    At, Deleted, Metadata, ObjectFacts, ObjectStream, Page, PutNew, ReadRepository, Repository,
    Said, StoreError,
};

/// One request.
pub(crate) struct Call {
    /// `put`, `put-new`, `head`, `get`, `list`, `clock`, `delete`.
    pub(crate) operation: &'static str,
    /// The key without `base/` and the label; empty where there is none.
    pub(crate) name: String,
    /// How many of this operation and key came before it.
    pub(crate) before: usize,
}

pub(crate) enum Act {
    Pass,
    /// HTTP 503: it may pass.
    Unavailable,
    /// HTTP 403: it does not pass by itself.
    Denied,
    Hang,
    /// A bit flips on the way, unseen.
    Damage,
    /// It is done, and the answer gets lost.
    PassAndDeny,
    /// Somebody else deletes this object of the same base first.
    Lose(&'static str),
    /// The ETag is none that says something about the content.
    HideEtag,
}

type Rule = Box<dyn Fn(&Call) -> Act + Send + Sync>;

pub(crate) struct Odd {
    inner: Arc<dyn Repository>,
    rule: Rule,
    seen: Mutex<BTreeMap<(&'static str, String), usize>>,
    deletes: Mutex<Vec<String>>,
}

impl Odd {
    pub(crate) fn new(
        inner: &Arc<dyn Repository>,
        rule: impl Fn(&Call) -> Act + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            rule: Box::new(rule),
            seen: Mutex::default(),
            deletes: Mutex::default(),
        })
    }

    /// Names of all that was to be deleted, in order.
    pub(crate) fn deletes(&self) -> Vec<String> {
        self.deletes.lock().unwrap().clone()
    }

    fn act(&self, operation: &'static str, key: Option<&ObjectKey>) -> Act {
        let name = key.map(short).unwrap_or_default();
        let mut seen = self.seen.lock().unwrap();
        let count = seen.entry((operation, name.clone())).or_default();
        let before = *count;
        *count += 1;
        (self.rule)(&Call {
            operation,
            name,
            before,
        })
    }

    /// Fails or hangs if the rule says so; what is left is for the request itself.
    async fn before(
        &self,
        operation: &'static str,
        key: Option<&ObjectKey>,
    ) -> Result<Act, StoreError> {
        let act = self.act(operation, key);
        match act {
            Act::Unavailable => Err(StoreError::Server {
                at: At::new(self.name(), operation, key),
                said: Said::new(500, "InternalError", ""),
            }),
            Act::Denied => Err(self.denied(operation, key)),
            Act::Hang => std::future::pending().await,
            Act::Lose(name) => {
                let lost = key
                    .expect("a key")
                    .as_str()
                    .replace(&key.map(short).unwrap_or_default(), name);
                self.inner.delete(&lost.parse().unwrap()).await?;
                Ok(Act::Pass)
            }
            act => Ok(act),
        }
    }

    fn denied(&self, operation: &'static str, key: Option<&ObjectKey>) -> StoreError {
        StoreError::Denied {
            at: At::new(self.name(), operation, key),
            said: Said::new(403, "AccessDenied", ""),
        }
    }
}

fn short(key: &ObjectKey) -> String {
    let mut folders = key.as_str().splitn(3, '/');
    folders.nth(2).unwrap_or(key.as_str()).to_owned()
}

fn flipped(body: &Bytes) -> Bytes {
    let mut damaged = body.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    damaged.into()
}

fn hide(act: &Act, etag: &mut Option<String>) {
    if matches!(act, Act::HideEtag) {
        *etag = Some("encrypted-on-the-server".to_owned());
    }
}

#[async_trait]
impl ReadRepository for Odd {
    fn name(&self) -> &RepositoryName {
        self.inner.name()
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError> {
        let act = self.before("head", Some(key)).await?;
        let mut facts = self.inner.head(key).await?;
        if let Some(facts) = &mut facts {
            hide(&act, &mut facts.etag);
        }
        Ok(facts)
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<ObjectStream>, StoreError> {
        self.before("get", Some(key)).await?;
        self.inner.get(key).await
    }

    async fn list(
        &self,
        prefix: &KeyPrefix,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let act = self.before("list", None).await?;
        // Small pages, so that every listing has several.
        let mut page = self.inner.list(prefix, after, limit.min(3)).await?;
        for listed in &mut page.objects {
            hide(&act, &mut listed.etag);
        }
        Ok(page)
    }

    async fn clock(&self) -> Result<DateTime<Utc>, StoreError> {
        self.before("clock", None).await?;
        self.inner.clock().await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.inner.probe().await
    }
}

#[async_trait]
impl Repository for Odd {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        md5: &Md5,
    ) -> Result<(), StoreError> {
        match self.before("put", Some(key)).await? {
            Act::Damage => {
                let body = flipped(&body);
                let md5 = walferry_proof::md5(&body);
                self.inner.put(key, body, metadata, &md5).await
            }
            Act::PassAndDeny => {
                self.inner.put(key, body, metadata, md5).await?;
                Err(self.denied("put", Some(key)))
            }
            _ => self.inner.put(key, body, metadata, md5).await,
        }
    }

    async fn put_new(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        md5: &Md5,
    ) -> Result<PutNew, StoreError> {
        match self.before("put-new", Some(key)).await? {
            Act::PassAndDeny => {
                self.inner.put_new(key, body, metadata, md5).await?;
                Err(self.denied("put-new", Some(key)))
            }
            _ => self.inner.put_new(key, body, metadata, md5).await,
        }
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
        self.deletes.lock().unwrap().push(short(key));
        self.before("delete", Some(key)).await?;
        self.inner.delete(key).await
    }
}
