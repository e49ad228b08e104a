//! Removing a base from a repository.

use walferry_killpoint::kill_point;
use walferry_layout::base::{BaseLabel, BaseObject, base_folder};
use walferry_proof::KeyPrefix;
use walferry_store::{Repository, StoreError};

use crate::folders;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub objects: u64,
    /// Of all these objects; B2 keeps several.
    pub versions: u64,
    /// Bytes of the objects, their newest versions.
    pub stored_size: u64,
}

/// A base could not be removed, or not all of it.
#[derive(Debug, thiserror::Error)]
#[error("remove base backup {label}. HINT: do it again; a part of it may be gone")]
pub struct RemoveError {
    pub label: BaseLabel,
    #[source]
    pub source: StoreError,
}

/// Removes the base `label`, complete or not, by exact keys; one that is not there is fine.
///
/// `backup.json` goes first, so that nobody takes a base for complete of which a part is gone;
/// `begun.json` goes last, so that a removal that is interrupted leaves a base that has begun
/// and was never completed, which `clean` finds. Whether the base may go (`keep.json`, the last
/// one, a restore under way) is the caller's to know.
///
/// # Errors
/// [`RemoveError`]: it is then unknown what is left; removing it again is harmless.
pub async fn remove(
    repository: &dyn Repository,
    prefix: &KeyPrefix,
    label: BaseLabel,
) -> Result<Removed, RemoveError> {
    let failed = |source| RemoveError { label, source };
    let folder = folders::walk(repository, prefix, &base_folder(prefix, label))
        .await
        .map_err(failed)?
        .remove(&label)
        .unwrap_or_default();
    let mut versions = 0;
    let middle = folder.middle();
    for (objects, begun) in [
        (&[BaseObject::Complete][..], false),
        (&middle[..], false),
        (&[BaseObject::Begun][..], true),
    ] {
        if begun {
            // A crash here leaves `begun.json` alone: `clean` removes it.
            kill_point!("base-remove.begun-delete.before");
        } else {
            // A crash here leaves the base as it was, or one without `backup.json`.
            kill_point!("base-remove.delete.before");
        }
        versions += folders::delete(repository, prefix, label, objects)
            .await
            .map_err(failed)?;
    }
    kill_point!("base-remove.begun-delete.after");
    Ok(Removed {
        objects: folder.objects.len() as u64,
        versions,
        stored_size: folder.objects.values().map(|listed| listed.size).sum(),
    })
}
