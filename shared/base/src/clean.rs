//! The remains of bases that were begun and never completed.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use walferry_killpoint::kill_point;
use walferry_layout::base::{BaseLabel, BaseObject, BegunBase, base_key, base_prefix};
use walferry_proof::KeyPrefix;
use walferry_store::{Repository, StoreError};

use crate::folders::{self, Folder};
use crate::small;
use crate::upload::UploadError;

/// Deletes between two looks for `backup.json`.
const BETWEEN_LOOKS: usize = 64;

/// When a base that is not complete is nobody's any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandoned {
    /// Begun at least so long ago, by the repository's clock; longer than any base takes,
    /// unless all that run are in `running`.
    pub older_than: TimeDelta,
    /// Being taken or copied, or to be completed from another repository: never abandoned.
    pub running: BTreeSet<BaseLabel>,
}

/// Remains that were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleaned {
    pub label: BaseLabel,
    pub objects: u64,
    /// Bytes of the objects, their newest versions.
    pub stored_size: u64,
}

/// Remains could not be looked for, or not all be removed.
#[derive(Debug, thiserror::Error)]
#[error("remove what interrupted base backups left under `{prefix}`")]
pub struct CleanError {
    prefix: KeyPrefix,
    #[source]
    source: Box<UploadError>,
}

/// Whether a base that is not complete may be removed. Of one with `backup.json` this is never
/// asked.
#[must_use]
pub fn is_abandoned(label: BaseLabel, now: DateTime<Utc>, rule: &Abandoned) -> bool {
    !rule.running.contains(&label) && now - label.time() >= rule.older_than
}

/// Removes what bases left that were begun and never completed, by exact keys; `begun.json`
/// goes last, so that an interrupted cleaning is taken up again.
///
/// Left alone is: what has a `backup.json`, which is looked for again right before anything is
/// deleted; what `rule` does not call abandoned; what has a `begun.json` that this version does
/// not understand; and every object that is no base's. A base that is still being taken after
/// it was called abandoned finds its objects gone and is not completed.
///
/// # Errors
/// [`CleanError`]; what was removed by then stays removed.
pub async fn clean(
    repository: &dyn Repository,
    prefix: &KeyPrefix,
    rule: &Abandoned,
) -> Result<Vec<Cleaned>, CleanError> {
    let failed = |source| CleanError {
        prefix: prefix.clone(),
        source: Box::new(source),
    };
    let store = |source: StoreError| failed(source.into());
    let folders = folders::walk(repository, prefix, &base_prefix(prefix))
        .await
        .map_err(store)?;
    let now = repository.clock().await.map_err(store)?;
    let mut cleaned = Vec::new();
    for (label, folder) in folders {
        if folder.has(&BaseObject::Complete) || !is_abandoned(label, now, rule) {
            continue;
        }
        if wipe(repository, prefix, label, &folder)
            .await
            .map_err(failed)?
        {
            cleaned.push(Cleaned {
                label,
                objects: folder.objects.len() as u64,
                stored_size: folder.objects.values().map(|listed| listed.size).sum(),
            });
        }
    }
    Ok(cleaned)
}

/// Whether the folder was removed; not if it became a complete base or is none of ours.
async fn wipe(
    repository: &dyn Repository,
    prefix: &KeyPrefix,
    label: BaseLabel,
    folder: &Folder,
) -> Result<bool, UploadError> {
    let key = |object: &BaseObject| base_key(prefix, label, object);
    if folder.has(&BaseObject::Begun) {
        let begun = small::read(repository, &key(&BaseObject::Begun)).await?;
        let ours = begun.is_none_or(|bytes| BegunBase::parse(&bytes).is_ok());
        if !ours {
            tracing::warn!(
                base.label = %label,
                repository.name = %repository.name(),
                "remains of a base backup are left alone: their `begun.json` cannot be read"
            );
            return Ok(false);
        }
    }
    let mut middle = folder.middle();
    middle.push(BaseObject::Begun);
    for objects in batches(&middle) {
        // A copy from another repository may have completed it meanwhile.
        if repository
            .head(&key(&BaseObject::Complete))
            .await?
            .is_some()
        {
            return Ok(false);
        }
        // A crash before or after leaves fewer objects, and `begun.json` unless all are gone.
        kill_point!("base-clean.delete.before");
        folders::delete(repository, prefix, label, objects).await?;
        kill_point!("base-clean.delete.after");
    }
    Ok(true)
}

/// The last object, `begun.json`, is a batch of its own.
fn batches(objects: &[BaseObject]) -> impl Iterator<Item = &[BaseObject]> {
    let (middle, begun) = objects.split_at(objects.len().saturating_sub(1));
    middle.chunks(BETWEEN_LOOKS).chain(std::iter::once(begun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandoned_is_what_is_old_and_does_not_run() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let label = |age: i64| BaseLabel::at(now - TimeDelta::seconds(age));
        let rule = Abandoned {
            older_than: TimeDelta::seconds(60),
            running: [label(90)].into(),
        };
        for (age, expected) in [
            (59, false),
            (60, true),
            (90, false),
            (91, true),
            (-5, false),
        ] {
            assert_eq!(is_abandoned(label(age), now, &rule), expected, "{age}");
        }
    }

    #[test]
    fn begun_is_deleted_after_everything_else() {
        let objects = vec![BaseObject::Manifest; 2 * BETWEEN_LOOKS + 1];
        let with_begun = [objects, vec![BaseObject::Begun]].concat();
        let batches: Vec<_> = batches(&with_begun).collect();
        assert_eq!(batches.len(), 4);
        assert_eq!(batches[3], [BaseObject::Begun]);
    }
}
