//! Objects of other content that lie where ours belong, as they were when they were read.
//!
//! A person has to move such an object away, which may take days. Until then a HEAD tells
//! that it still lies there: neither is it downloaded nor is the file packed for each
//! attempt. What was remembered is lost with the process, and the object read once more.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use walferry_proof::{ObjectKey, RepositoryName};
use walferry_store::{ObjectFacts, ReadRepository as _};

use crate::{archiver::Target, upload::CopyError};

type Place = (RepositoryName, ObjectKey);

/// The objects that this process has found to be somebody else's.
#[derive(Default)]
pub struct Foreign {
    seen: Mutex<HashMap<Place, (ObjectFacts, String)>>,
}

impl Foreign {
    /// The object that `facts` describe was read and holds other content.
    pub fn remember(
        &self,
        repository: &RepositoryName,
        key: &ObjectKey,
        facts: ObjectFacts,
        reason: &str,
    ) {
        let place = (repository.clone(), key.clone());
        self.lock().insert(place, (facts, reason.to_owned()));
    }

    /// Whether nothing is known to be in the way under `key`.
    ///
    /// # Errors
    /// [`CopyError::Conflict`] while the object that was read lies there unchanged.
    pub(crate) async fn out_of_the_way(
        &self,
        target: &Target,
        key: &ObjectKey,
    ) -> Result<(), CopyError> {
        let place = (target.name().clone(), key.clone());
        let Some((facts, reason)) = self.lock().get(&place).cloned() else {
            return Ok(());
        };
        if target.store.head(key).await?.as_ref() == Some(&facts) {
            let (repository, key) = place;
            return Err(CopyError::Conflict {
                repository,
                key,
                reason,
            });
        }
        self.lock().remove(&place);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, (ObjectFacts, String)>> {
        // The map holds no invariant that a panic could break half-way.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
