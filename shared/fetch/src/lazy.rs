//! A repository whose client is made when it is first asked.
//!
//! Reading the system's certificates takes longer than finding out that a segment was fetched
//! ahead, and a repository that cannot be set up must not keep the others from being asked.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use walferry_proof::{KeyPrefix, ObjectKey, RepositoryName};
use walferry_store::{
    ObjectFacts, ObjectStream, Page, ReadRepository, Repository, S3Settings, StoreError,
};

/// An S3 repository to read from.
pub struct Lazy {
    settings: S3Settings,
    made: OnceLock<Arc<dyn Repository>>,
}

impl Lazy {
    /// Makes nothing yet, so it cannot fail; what is wrong with the settings is the answer to
    /// each request.
    #[must_use]
    pub fn new(settings: S3Settings) -> Self {
        Self {
            settings,
            made: OnceLock::new(),
        }
    }

    fn made(&self) -> Result<&dyn Repository, StoreError> {
        if let Some(made) = self.made.get() {
            return Ok(made.as_ref());
        }
        let made = walferry_store::s3(&self.settings)?;
        Ok(self.made.get_or_init(|| made).as_ref())
    }
}

#[async_trait]
impl ReadRepository for Lazy {
    fn name(&self) -> &RepositoryName {
        &self.settings.name
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError> {
        self.made()?.head(key).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<ObjectStream>, StoreError> {
        self.made()?.get(key).await
    }

    async fn list(
        &self,
        prefix: &KeyPrefix,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.made()?.list(prefix, after, limit).await
    }

    async fn clock(&self) -> Result<DateTime<Utc>, StoreError> {
        self.made()?.clock().await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.made()?.probe().await
    }
}
