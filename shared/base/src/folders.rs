//! What lies under the prefix of base backups, by label.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _};
use walferry_layout::base::{BaseLabel, BaseObject, base_key, parse_base_key};
use walferry_proof::KeyPrefix;
use walferry_store::{Listed, ReadRepository, Repository, StoreError};

/// Most that S3 lists at once.
const PAGE: usize = 1000;
/// Deletes under way at once.
const DELETES: usize = 8;

/// The objects of one label. Others that lie in its folder are nobody's business here.
#[derive(Default)]
pub(crate) struct Folder {
    pub(crate) objects: BTreeMap<BaseObject, Listed>,
}

impl Folder {
    pub(crate) fn has(&self, object: &BaseObject) -> bool {
        self.objects.contains_key(object)
    }

    /// All but `begun.json` and `backup.json`, whose turn is their own.
    pub(crate) fn middle(&self) -> Vec<BaseObject> {
        self.objects
            .keys()
            .filter(|object| !matches!(object, BaseObject::Begun | BaseObject::Complete))
            .cloned()
            .collect()
    }
}

/// Everything below `below`, which is the folder of all bases of the cluster with `prefix` or
/// that of one.
pub(crate) async fn walk<R: ReadRepository + ?Sized>(
    repository: &R,
    prefix: &KeyPrefix,
    below: &KeyPrefix,
) -> Result<BTreeMap<BaseLabel, Folder>, StoreError> {
    let mut folders: BTreeMap<BaseLabel, Folder> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = repository.list(below, after.as_ref(), PAGE).await?;
        let last = page.objects.last().map(|listed| listed.key.clone());
        for listed in page.objects {
            if let Some((label, object)) = parse_base_key(prefix, &listed.key) {
                let folder = folders.entry(label).or_default();
                folder.objects.insert(object, listed);
            }
        }
        match last {
            Some(last) if page.more => after = Some(last),
            _ => return Ok(folders),
        }
    }
}

/// Deletes these objects by their exact keys, in no order; how many versions went.
pub(crate) async fn delete(
    repository: &dyn Repository,
    prefix: &KeyPrefix,
    label: BaseLabel,
    objects: &[BaseObject],
) -> Result<u64, StoreError> {
    let keys: Vec<_> = objects
        .iter()
        .map(|object| base_key(prefix, label, object))
        .collect();
    futures::stream::iter(keys)
        .map(|key| async move { repository.delete(&key).await })
        .buffer_unordered(DELETES)
        .try_fold(0, |sum, deleted| async move {
            Ok(sum + u64::from(deleted.versions))
        })
        .await
}
