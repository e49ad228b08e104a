//! The wish that retention leaves a base alone.

use chrono::{DateTime, Utc};
use walferry_killpoint::kill_point;
use walferry_layout::base::{BaseLabel, BaseObject, KeepMark, base_key};
use walferry_proof::{KeyPrefix, RepositoryName};
use walferry_store::{ReadRepository, Repository, StoreError};

use crate::small;
use crate::upload::UploadError;

/// A mark could not be set or taken away.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error("base backup {label} is not complete in `{repository}`, so there is nothing to keep")]
    NotComplete {
        repository: RepositoryName,
        label: BaseLabel,
    },
    /// Whether the mark is there is then unknown; doing it again is harmless.
    #[error("mark base backup {label}")]
    Mark {
        label: BaseLabel,
        #[source]
        source: Box<UploadError>,
    },
}

/// Marks the base `label` to be kept, over an earlier mark, or takes the mark away.
///
/// # Errors
/// [`KeepError`].
pub async fn set_keep(
    repository: &dyn Repository,
    prefix: &KeyPrefix,
    label: BaseLabel,
    keep: Option<KeepMark>,
) -> Result<(), KeepError> {
    let failed = |source| KeepError::Mark {
        label,
        source: Box::new(source),
    };
    let store = |source: StoreError| failed(source.into());
    let key = base_key(prefix, label, &BaseObject::Keep);
    let Some(mark) = keep else {
        // A crash before or after: the base is kept or it is not, as if asked before or after.
        kill_point!("base-keep.delete.before");
        repository.delete(&key).await.map_err(store)?;
        kill_point!("base-keep.delete.after");
        return Ok(());
    };
    let complete = base_key(prefix, label, &BaseObject::Complete);
    if repository.head(&complete).await.map_err(store)?.is_none() {
        return Err(KeepError::NotComplete {
            repository: repository.name().clone(),
            label,
        });
    }
    kill_point!("base-keep.put.before");
    small::replace(repository, &key, &mark.to_json().into())
        .await
        .map_err(failed)?;
    kill_point!("base-keep.put.after");
    Ok(())
}

/// Whether a mark keeps the base there at `now`; one that cannot be read does.
///
/// # Errors
/// When the repository does not answer.
pub async fn is_kept(
    repository: &dyn ReadRepository,
    prefix: &KeyPrefix,
    label: BaseLabel,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let key = base_key(prefix, label, &BaseObject::Keep);
    match small::read(repository, &key).await {
        Ok(None) => Ok(false),
        Ok(Some(mark)) => {
            Ok(KeepMark::parse(&mark)
                .map_or(true, |mark| mark.until.is_none_or(|until| until > now)))
        }
        Err(UploadError::Store(error)) => Err(error),
        Err(_) => Ok(true),
    }
}
