//! `begun.json`: whose a label's folder is.
//!
//! It holds the moment at which the base began, to the nanosecond, so no two bases write the
//! same. The store says whether it is there already; where it cannot
//! (two writers race in a store without conditional PUT), it is read once more before
//! `backup.json` is written.

use bytes::Bytes;
use walferry_killpoint::kill_point;
use walferry_layout::base::{BaseLabel, BaseObject, BegunBase, base_key};
use walferry_proof::{KeyPrefix, ObjectKey};
use walferry_store::Repository;

use crate::settings::Patience;
use crate::small;
use crate::upload::{UploadError, again};

/// A base that this process takes or copies.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) prefix: KeyPrefix,
    pub(crate) label: BaseLabel,
    begun: BegunBase,
}

impl Claim {
    pub(crate) fn new(prefix: &KeyPrefix, begun: BegunBase) -> Self {
        Self {
            prefix: prefix.clone(),
            label: begun.label,
            begun,
        }
    }

    pub(crate) fn key(&self, object: &BaseObject) -> ObjectKey {
        base_key(&self.prefix, self.label, object)
    }

    /// Takes the label in `repository`; false if it is somebody else's. Then nothing there may
    /// be touched.
    pub(crate) async fn stake(
        &self,
        repository: &dyn Repository,
        patience: Patience,
    ) -> Result<bool, UploadError> {
        let json = Bytes::from(self.begun.to_json());
        again(patience, || async {
            // A base whose `begun.json` somebody deleted.
            let complete = repository.head(&self.key(&BaseObject::Complete)).await?;
            if complete.is_some() {
                return Ok(false);
            }
            // A crash before leaves nothing, one after it a base that has begun: `clean` finds it.
            kill_point!("base.begun-put.before");
            let created = small::create(repository, &self.key(&BaseObject::Begun), &json).await;
            kill_point!("base.begun-put.after");
            match created {
                // Another one's, or this base's own, of a time before this process.
                Ok(false) | Err(UploadError::Differs { .. }) => self.holds(repository).await,
                other => other,
            }
        })
        .await
    }

    /// Whether the label is still this base's there.
    pub(crate) async fn holds(&self, repository: &dyn Repository) -> Result<bool, UploadError> {
        let found = small::read(repository, &self.key(&BaseObject::Begun)).await?;
        Ok(found
            .is_some_and(|bytes| BegunBase::parse(&bytes).is_ok_and(|found| found == self.begun)))
    }
}
