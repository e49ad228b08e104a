//! What a repository is to everybody else: keys and bytes, not WAL.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use walferry_proof::{KeyPrefix, Md5, ObjectKey, RepositoryName};

use crate::StoreError;

/// A place that holds objects, as restore and `check` see it: it cannot be written to.
#[async_trait]
pub trait ReadRepository: Send + Sync + 'static {
    fn name(&self) -> &RepositoryName;

    /// What the repository reports about an object; `None` only if it says that the bucket
    /// is there and the key is not.
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError>;

    /// The object as a stream; `None` as for `head`.
    ///
    /// The stream ends with an error, never quietly, if fewer bytes arrive than announced
    /// or none arrive for the idle timeout.
    async fn get(&self, key: &ObjectKey) -> Result<Option<ObjectStream>, StoreError>;

    /// At most `limit` objects below `prefix` in the order of their keys, those behind
    /// `after` only.
    ///
    /// If `more` is true, the next page begins behind the last of `objects`.
    async fn list(
        &self,
        prefix: &KeyPrefix,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// The server's time, from the `Date` header of an answer; whole seconds.
    ///
    /// Works with a clock that is off by so much that requests are refused for it.
    async fn clock(&self) -> Result<DateTime<Utc>, StoreError>;

    /// Whether the bucket exists and the credentials may list it.
    async fn probe(&self) -> Result<(), StoreError>;
}

/// A repository that may be written to.
#[async_trait]
pub trait Repository: ReadRepository {
    /// Stores an object in one PUT, over whatever was there.
    ///
    /// After an error it is unknown whether the object was stored; repeating the call with
    /// the same bytes is harmless.
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        md5: &Md5,
    ) -> Result<(), StoreError>;

    /// Stores an object only if the key is free. For small objects: it may be read back.
    ///
    /// `Created` says that the key holds exactly `body`, which is also the answer to a
    /// repetition of a call whose reply was lost. After an error it is unknown whether the
    /// object was stored. Where the store has no conditional PUT, two writers that race may
    /// overwrite each other: the one whose bytes are gone learns `Exists` unless it read
    /// them back before the other one wrote, so look again before relying on it.
    /// `md5` is that of `body`.
    async fn put_new(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        md5: &Md5,
    ) -> Result<PutNew, StoreError>;

    /// Stores an object in equal parts (the last may be shorter), two in flight at most.
    ///
    /// The pieces of `parts` may have any size. Returns the ETag that the finished object
    /// must have, computed from what was sent and not from what the cloud answered. After
    /// an error, or when the call is dropped, the upload is aborted as far as that is
    /// possible; the key then still holds what it held before.
    async fn put_parts(
        &self,
        key: &ObjectKey,
        parts: BoxStream<'_, Result<Bytes, StoreError>>,
        metadata: &Metadata,
    ) -> Result<String, StoreError>;

    /// Deletes every version and delete marker of exactly this key; an absent key is fine.
    ///
    /// After an error it is unknown how many versions are left; the newest goes last, so
    /// an older version never comes back to light.
    async fn delete(&self, key: &ObjectKey) -> Result<Deleted, StoreError>;
}

/// User metadata of an object: lower-case names without the `x-amz-meta-` prefix.
pub type Metadata = BTreeMap<String, String>;

/// What a repository reports about one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectFacts {
    pub size: u64,
    /// Without quotes.
    pub etag: Option<String>,
    pub last_modified: DateTime<Utc>,
    pub metadata: Metadata,
}

/// An object on its way.
pub struct ObjectStream {
    pub facts: ObjectFacts,
    pub body: BoxStream<'static, Result<Bytes, StoreError>>,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: ObjectKey,
    pub size: u64,
    pub last_modified: DateTime<Utc>,
    /// Without quotes.
    pub etag: Option<String>,
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub objects: Vec<Listed>,
    /// Keys that are no `ObjectKey` and are left out of `objects`.
    pub skipped: usize,
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutNew {
    /// The key now holds exactly the given bytes. What a HEAD reported after the PUT, where
    /// one was needed to know that.
    Created(Option<ObjectFacts>),
    /// The key holds something else, and still does.
    Exists,
}

/// What a delete took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Versions and delete markers; 0 if there was nothing.
    pub versions: u32,
}

impl std::fmt::Debug for ObjectStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectStream")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}
