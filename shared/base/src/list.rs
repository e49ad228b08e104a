//! Which bases a repository holds.

use walferry_layout::base::{
    BaseLabel, BaseObject, BegunBase, CompleteBase, KeepMark, base_key, base_prefix,
};
use walferry_proof::KeyPrefix;
use walferry_store::{ReadRepository, StoreError};

use crate::folders::{self, Folder};
use crate::small;
use crate::upload::UploadError;

/// A label under which something lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBase {
    pub label: BaseLabel,
    pub state: BaseState,
    /// A mark that cannot be read counts as one for ever: it was put there to keep the base.
    pub keep: Option<KeepMark>,
    /// That are a base's; others in the folder are not counted.
    pub objects: u64,
    /// Bytes of these.
    pub stored_size: u64,
}

/// How far a base has come in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseState {
    Complete(Box<CompleteBase>),
    /// It is being taken or copied, or that was interrupted.
    Begun(BegunBase),
    /// Why nothing can be said about it; it must not be restored from.
    Unreadable(String),
}

/// The bases could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("list the base backups under `{prefix}`")]
pub struct ListError {
    prefix: KeyPrefix,
    #[source]
    source: StoreError,
}

/// The bases of the cluster with `prefix`, the newest first: one walk through the listing, and
/// one GET for each.
///
/// # Errors
/// When the repository does not answer. What cannot be understood is `Unreadable`.
pub async fn list(
    repository: &dyn ReadRepository,
    prefix: &KeyPrefix,
) -> Result<Vec<FoundBase>, ListError> {
    let failed = |source| ListError {
        prefix: prefix.clone(),
        source,
    };
    let folders = folders::walk(repository, prefix, &base_prefix(prefix))
        .await
        .map_err(failed)?;
    let mut found = Vec::with_capacity(folders.len());
    for (label, folder) in folders.iter().rev() {
        found.push(FoundBase {
            label: *label,
            state: state(repository, prefix, *label, folder)
                .await
                .map_err(failed)?,
            keep: keep(repository, prefix, *label, folder)
                .await
                .map_err(failed)?,
            objects: folder.objects.len() as u64,
            stored_size: folder.objects.values().map(|listed| listed.size).sum(),
        });
    }
    Ok(found)
}

/// What the two objects that tell a base's state say.
async fn state(
    repository: &dyn ReadRepository,
    prefix: &KeyPrefix,
    label: BaseLabel,
    folder: &Folder,
) -> Result<BaseState, StoreError> {
    let unreadable = |object: &str, reason: &dyn std::fmt::Display| {
        BaseState::Unreadable(format!("`{object}` cannot be used: {reason}"))
    };
    if folder.has(&BaseObject::Complete) {
        return Ok(
            match read(repository, prefix, label, &BaseObject::Complete).await? {
                Read::Bytes(bytes) => match CompleteBase::parse(&bytes) {
                    Ok(base) if base.label == label => BaseState::Complete(Box::new(base)),
                    Ok(base) => unreadable("backup.json", &format!("it is that of {}", base.label)),
                    Err(error) => unreadable("backup.json", &error),
                },
                Read::Gone => unreadable("backup.json", &"it was deleted just now"),
                Read::Damaged(error) => unreadable("backup.json", &error),
            },
        );
    }
    if folder.has(&BaseObject::Begun) {
        return Ok(
            match read(repository, prefix, label, &BaseObject::Begun).await? {
                Read::Bytes(bytes) => match BegunBase::parse(&bytes) {
                    Ok(begun) if begun.label == label => BaseState::Begun(begun),
                    Ok(begun) => {
                        unreadable("begun.json", &format!("it is that of {}", begun.label))
                    }
                    Err(error) => unreadable("begun.json", &error),
                },
                Read::Gone => unreadable("begun.json", &"it was deleted just now"),
                Read::Damaged(error) => unreadable("begun.json", &error),
            },
        );
    }
    Ok(BaseState::Unreadable(
        "it has neither `backup.json` nor `begun.json`".to_owned(),
    ))
}

async fn keep(
    repository: &dyn ReadRepository,
    prefix: &KeyPrefix,
    label: BaseLabel,
    folder: &Folder,
) -> Result<Option<KeepMark>, StoreError> {
    if !folder.has(&BaseObject::Keep) {
        return Ok(None);
    }
    let mark = match read(repository, prefix, label, &BaseObject::Keep).await? {
        Read::Gone => return Ok(None),
        Read::Bytes(bytes) => KeepMark::parse(&bytes).ok(),
        Read::Damaged(_) => None,
    };
    if mark.is_none() {
        tracing::warn!(
            base.label = %label,
            repository.name = %repository.name(),
            "`keep.json` of a base backup cannot be read; the base is kept"
        );
    }
    Ok(Some(mark.unwrap_or(KeepMark { until: None })))
}

enum Read {
    Bytes(bytes::Bytes),
    Gone,
    Damaged(UploadError),
}

async fn read(
    repository: &dyn ReadRepository,
    prefix: &KeyPrefix,
    label: BaseLabel,
    object: &BaseObject,
) -> Result<Read, StoreError> {
    match small::read(repository, &base_key(prefix, label, object)).await {
        Ok(Some(bytes)) => Ok(Read::Bytes(bytes)),
        Ok(None) => Ok(Read::Gone),
        Err(UploadError::Store(error)) => Err(error),
        Err(error) => Ok(Read::Damaged(error)),
    }
}
