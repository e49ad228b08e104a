//! The owner mark: an object inside each prefix that names the system it belongs to.
//!
//! Two servers that archive into one prefix destroy each other's archive silently, so
//! nothing is written to a prefix before its mark was read. A prefix that holds objects
//! but no mark belongs to somebody else's past (the old system's 30 days) and is left
//! alone until `walferry import` has read it.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use chrono::Utc;
use tokio::sync::Mutex;
use walferry_killpoint::kill_point;
use walferry_layout::{OwnerMark, catalog_key, owner_key};
use walferry_proof::{KeyPrefix, RepositoryName};
use walferry_store::{PutNew, Repository, StoreError};
use walferry_wal::{SegmentSize, SystemId};

use walferry_pack::unpack::{self, UnpackError};

/// A mark is a few hundred bytes; what is larger is none.
const LARGEST_MARK: u64 = 64 << 10;

/// Why nothing may be written to a prefix.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The repository did not answer.
    #[error("read the owner mark of `{prefix}` in `{repository}`")]
    Store {
        /// Where.
        repository: RepositoryName,
        /// Which prefix.
        prefix: KeyPrefix,
        /// The cloud's answer.
        #[source]
        source: StoreError,
    },
    /// Another database system archives here.
    #[error(
        "prefix `{prefix}` in `{repository}` belongs to system {found} of cluster `{cluster}`, not to system {ours}. HINT: give this cluster a prefix of its own; after pg_upgrade, run `walferry cluster upgrade`"
    )]
    OtherSystem {
        /// Where.
        repository: RepositoryName,
        /// Which prefix.
        prefix: KeyPrefix,
        /// The owner's cluster name.
        cluster: String,
        /// The owner.
        found: SystemId,
        /// Who wanted to write.
        ours: SystemId,
    },
    /// Objects, but no mark.
    #[error(
        "prefix `{prefix}` in `{repository}` holds objects but no owner mark, so it is not written to. HINT: run `walferry import --dry-run`, then `walferry import`"
    )]
    Unmarked {
        /// Where.
        repository: RepositoryName,
        /// Which prefix.
        prefix: KeyPrefix,
    },
    /// The mark is there and cannot be read.
    #[error(
        "the owner mark of `{prefix}` in `{repository}` cannot be understood: {reason}. HINT: compare it with the mark of the other repository; a newer walferry may have written it"
    )]
    Unreadable {
        /// Where.
        repository: RepositoryName,
        /// Which prefix.
        prefix: KeyPrefix,
        /// What is wrong with it.
        reason: String,
    },
}

/// Who asks for a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster's name in the configuration.
    pub cluster: String,
    /// The database system, from its segments' headers.
    pub system_id: SystemId,
    /// The cluster's segment size.
    pub segment_size: SegmentSize,
}

/// Marks that this process has read. They never change, so each is read once.
#[derive(Clone, Default)]
pub struct OwnerMarks {
    seen: Arc<Mutex<HashMap<(RepositoryName, KeyPrefix), SystemId>>>,
}

impl OwnerMarks {
    /// Makes sure that `prefix` in `repository` belongs to `owner`, and sets the mark
    /// when the prefix is empty.
    ///
    /// # Errors
    /// [`OwnerError`]: then nothing may be written. A crash after the mark was set and
    /// before the first segment leaves a marked, empty prefix, which the next start finds
    /// to be its own.
    pub async fn ensure(
        &self,
        repository: &dyn Repository,
        prefix: &KeyPrefix,
        owner: &Owner,
    ) -> Result<(), OwnerError> {
        let place = (repository.name().clone(), prefix.clone());
        let found = self.seen.lock().await.get(&place).copied();
        let found = match found {
            Some(system_id) => OwnerMark {
                system_id,
                ..mark_of(owner)
            },
            None => read_or_set(repository, prefix, owner).await?,
        };
        if found.system_id != owner.system_id {
            return Err(OwnerError::OtherSystem {
                repository: place.0,
                prefix: place.1,
                cluster: found.cluster,
                found: found.system_id,
                ours: owner.system_id,
            });
        }
        self.seen.lock().await.insert(place, found.system_id);
        Ok(())
    }
}

/// Reads the mark of `prefix`; `None` when there is none.
///
/// # Errors
/// [`OwnerError::Store`] and [`OwnerError::Unreadable`].
pub async fn read_mark(
    repository: &dyn Repository,
    prefix: &KeyPrefix,
) -> Result<Option<OwnerMark>, OwnerError> {
    let failed = |source| OwnerError::Store {
        repository: repository.name().clone(),
        prefix: prefix.clone(),
        source,
    };
    let Some(object) = repository.get(&owner_key(prefix)).await.map_err(failed)? else {
        return Ok(None);
    };
    let unreadable = |reason: String| OwnerError::Unreadable {
        repository: repository.name().clone(),
        prefix: prefix.clone(),
        reason,
    };
    let body = match unpack::collect(object.body, LARGEST_MARK).await {
        Ok(body) => body,
        Err(UnpackError::Store(error)) => return Err(failed(error)),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    OwnerMark::parse(&body)
        .map(Some)
        .map_err(|error| unreadable(error.to_string()))
}

/// Sets the mark without looking for objects: `import` has looked.
///
/// # Errors
/// [`OwnerError::Store`]; whether the mark was set is then unknown, and setting it again is harmless.
pub async fn set_mark(
    repository: &dyn Repository,
    prefix: &KeyPrefix,
    owner: &Owner,
) -> Result<PutNew, OwnerError> {
    let mark = Bytes::from(mark_of(owner).to_json());
    let md5 = walferry_proof::md5(&mark);
    repository
        .put_new(
            &owner_key(prefix),
            mark,
            &std::collections::BTreeMap::new(),
            &md5,
        )
        .await
        .map_err(|source| OwnerError::Store {
            repository: repository.name().clone(),
            prefix: prefix.clone(),
            source,
        })
}

/// Whether nothing lies under `prefix` but marks of ours: retention may have left its own in
/// a prefix where nothing was archived yet, and that is nobody's past.
///
/// # Errors
/// [`OwnerError::Store`].
pub async fn holds_only_marks(
    repository: &dyn Repository,
    prefix: &KeyPrefix,
) -> Result<bool, OwnerError> {
    let ours = [owner_key(prefix), catalog_key(prefix)];
    let page = repository
        .list(prefix, None, ours.len() + 1)
        .await
        .map_err(|source| OwnerError::Store {
            repository: repository.name().clone(),
            prefix: prefix.clone(),
            source,
        })?;
    Ok(!page.more && page.objects.iter().all(|object| ours.contains(&object.key)))
}

async fn read_or_set(
    repository: &dyn Repository,
    prefix: &KeyPrefix,
    owner: &Owner,
) -> Result<OwnerMark, OwnerError> {
    if let Some(mark) = read_mark(repository, prefix).await? {
        return Ok(mark);
    }
    // Another worker may have set the mark between our GET and our LIST.
    if !holds_only_marks(repository, prefix).await? {
        return match read_mark(repository, prefix).await? {
            Some(mark) => Ok(mark),
            None => Err(OwnerError::Unmarked {
                repository: repository.name().clone(),
                prefix: prefix.clone(),
            }),
        };
    }
    kill_point!("owner-mark.put.before");
    set_mark(repository, prefix, owner).await?;
    kill_point!("owner-mark.put.after");
    // Read back what is there: of two workers that set it at once, both see the same one.
    match read_mark(repository, prefix).await? {
        Some(mark) => Ok(mark),
        None => Err(OwnerError::Unreadable {
            repository: repository.name().clone(),
            prefix: prefix.clone(),
            reason: "it was written and is not there".to_owned(),
        }),
    }
}

fn mark_of(owner: &Owner) -> OwnerMark {
    OwnerMark::new(
        owner.cluster.clone(),
        owner.system_id,
        owner.segment_size,
        Utc::now(),
    )
}
