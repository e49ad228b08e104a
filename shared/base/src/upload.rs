//! One object into one repository, and the proof that it is there.

use std::time::Duration;

use bytes::Bytes;
use walferry_killpoint::kill_point;
use walferry_layout::metadata::ObjectMetadata;
use walferry_pack::pool::PackPool;
use walferry_pack::unpack::{self, UnpackError};
use walferry_proof::{
    Evidence, Expected, Mismatch, ObjectKey, Reported, RepositoryName, Verified, VerifyMode,
};
use walferry_store::{Metadata, ReadRepository, Repository, Retry, StoreError};

use crate::settings::Patience;

/// A cloud that asks for a longer pause than this is not waited for any longer.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// An object could not be stored, or not be shown to be there.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cloud reports something else than what was sent.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("`{key}` vanished from `{repository}` while it was verified")]
    Vanished {
        repository: RepositoryName,
        key: ObjectKey,
    },
    #[error("verify `{key}` in `{repository}` by reading it back")]
    ReadBack {
        repository: RepositoryName,
        key: ObjectKey,
        #[source]
        source: UnpackError,
    },
    /// What was read back is not what was sent.
    #[error("`{key}` in `{repository}` holds other bytes than were sent")]
    Differs {
        repository: RepositoryName,
        key: ObjectKey,
    },
}

/// What is to be stored.
pub(crate) struct Object<'a> {
    pub(crate) key: &'a ObjectKey,
    pub(crate) body: &'a Bytes,
    pub(crate) metadata: &'a Metadata,
    pub(crate) expected: &'a Expected,
}

/// Puts an object over whatever is there and verifies it, as often as `patience` says.
///
/// Overwriting is right: `begun.json` has given this label's folder to this base, so what is
/// there is an earlier attempt of its own.
pub(crate) async fn store(
    repository: &dyn Repository,
    object: &Object<'_>,
    pool: &PackPool,
    patience: Patience,
) -> Result<Verified, UploadError> {
    again(patience, || async {
        // A crash before or after the PUT leaves a base that has begun and is not complete.
        kill_point!("base.object-put.before");
        repository
            .put(
                object.key,
                object.body.clone(),
                object.metadata,
                &object.expected.stored_md5,
            )
            .await?;
        kill_point!("base.object-put.after");
        verify(repository, object.key, object.expected, pool).await
    })
    .await
}

/// Asks the repository what it holds: by HEAD where that tells the content, otherwise by
/// reading it back.
pub(crate) async fn verify<R: ReadRepository + ?Sized>(
    repository: &R,
    key: &ObjectKey,
    expected: &Expected,
    pool: &PackPool,
) -> Result<Verified, UploadError> {
    let reported = |evidence| Reported {
        repository: repository.name().clone(),
        key: key.clone(),
        evidence,
    };
    let vanished = || UploadError::Vanished {
        repository: repository.name().clone(),
        key: key.clone(),
    };
    let facts = repository.head(key).await?.ok_or_else(vanished)?;
    let by_head = reported(Evidence::Head {
        size: facts.size,
        etag: facts.etag,
        sha256_metadata: ObjectMetadata::from_map(&facts.metadata)
            .ok()
            .map(|metadata| metadata.sha256),
    });
    match Verified::compare(expected, by_head, VerifyMode::Head) {
        Ok(verified) => return Ok(verified),
        Err(mismatch) if mismatch.needs_read_back() => {}
        Err(mismatch) => return Err(mismatch.into()),
    }
    let object = repository.get(key).await?.ok_or_else(vanished)?;
    let contents = unpack::contents(pool, object.body)
        .await
        .map_err(|source| UploadError::ReadBack {
            repository: repository.name().clone(),
            key: key.clone(),
            source,
        })?;
    let by_content = reported(Evidence::ReadBack {
        stored_size: contents.stored_size,
        stored_md5: contents.stored_md5,
        plain_sha256: contents.plain_sha256,
        plain_size: contents.plain_size,
    });
    Ok(Verified::compare(
        expected,
        by_content,
        VerifyMode::ReadBack,
    )?)
}

/// Makes `attempt` until it succeeds, fails for good, or patience ends.
pub(crate) async fn again<T, F>(
    patience: Patience,
    mut attempt: impl FnMut() -> F,
) -> Result<T, UploadError>
where
    F: Future<Output = Result<T, UploadError>>,
{
    let mut failures = 0;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        failures += 1;
        if failures >= patience.attempts || !error.may_pass() {
            return Err(error);
        }
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            failures,
            "a request for a base backup is made again"
        );
        tokio::time::sleep(wait(patience.wait, failures, error.asked_wait())).await;
    }
}

/// Between half and all of `base` doubled with each failure, or what the cloud asked for.
fn wait(base: Duration, failures: u32, asked: Duration) -> Duration {
    let full = base.saturating_mul(1 << (failures - 1).min(10));
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
        .max(asked)
        .min(LONGEST_WAIT)
}

impl UploadError {
    /// Whether the same request may succeed in a moment.
    fn may_pass(&self) -> bool {
        match self {
            Self::Store(error)
            | Self::ReadBack {
                source: UnpackError::Store(error),
                ..
            } => error.retry() != Retry::Operator,
            Self::ReadBack {
                source: UnpackError::Pool(_),
                ..
            } => false,
            // Damaged on the way, perhaps; sent again it may arrive whole.
            Self::Mismatch(_)
            | Self::Vanished { .. }
            | Self::ReadBack { .. }
            | Self::Differs { .. } => true,
        }
    }

    fn asked_wait(&self) -> Duration {
        match self {
            Self::Store(error) => error.retry_after().unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_is_spread_and_heeds_the_cloud_up_to_a_bound() {
        let second = Duration::from_secs(1);
        for failures in 1..40 {
            let full = second.saturating_mul(1 << (failures - 1).min(10));
            let found = wait(second, failures, Duration::ZERO);
            assert!(
                found >= (full / 2).min(LONGEST_WAIT) && found <= full,
                "{failures}: {found:?}"
            );
        }
        assert_eq!(wait(second, 1, 7 * second), 7 * second);
        assert_eq!(wait(second, 1, 3600 * second), LONGEST_WAIT);
    }
}
