//! One file into one repository, and the proof that it is there.
//!
//! PUT, then ask the cloud what it holds. An object that is there already is never
//! overwritten: the same bytes are the end of an earlier attempt, other bytes that unpack
//! to the same segment are adopted, and anything else is a conflict for a person.

use std::time::Duration;

use walferry_catalog::status::OTHER_CONTENT;
use walferry_killpoint::kill_point;
use walferry_layout::metadata::ObjectMetadata;
use walferry_pack::pack::Packed;
use walferry_pack::pool::PackPool;
use walferry_pack::unpack::{self, UnpackError};
use walferry_proof::{
    Evidence, Expected, Mismatch, ObjectKey, Reported, RepositoryName, Sha256, Verified, VerifyMode,
};
use walferry_store::{ObjectFacts, ObjectStream, PutNew, Repository, Retry, StoreError};

use crate::{
    foreign::Foreign,
    heal::SourceError,
    leases::{Lease, LeaseLost},
    owner::OwnerError,
};

/// A copy could not be made or not be proven.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The cloud failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not ours to write to.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The cloud reports something else than what was sent.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// Another content lies under the key.
    #[error(
        "`{key}` in `{repository}` holds other content and was not overwritten: {reason}. HINT: compare both; if the object is the wrong one, move it away in the cloud and archiving goes on by itself"
    )]
    Conflict {
        /// Where.
        repository: RepositoryName,
        /// Which object.
        key: ObjectKey,
        /// What it holds.
        reason: String,
    },
    /// The object could not be read back.
    #[error("verify `{key}` in `{repository}` by reading it back")]
    ReadBack {
        /// Where.
        repository: RepositoryName,
        /// Which object.
        key: ObjectKey,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// It was there a moment ago.
    #[error("`{key}` vanished from `{repository}` while it was verified")]
    Vanished {
        /// Where.
        repository: RepositoryName,
        /// Which object.
        key: ObjectKey,
    },
    /// The claim is no longer ours.
    #[error(transparent)]
    Lease(#[from] LeaseLost),
    /// No other cloud could give the object.
    #[error("copy the object from another cloud")]
    Source(#[source] Box<SourceError>),
    /// The lane was full when the other repositories were done.
    #[error("`{repository}` cannot keep up; this copy is made later")]
    NoRoom {
        /// Where.
        repository: RepositoryName,
    },
}

impl CopyError {
    /// A label out of a bounded set: for the row, the metrics and `check`.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Store(error) => error.cause(),
            Self::Owner(OwnerError::Store { source, .. }) => source.cause(),
            Self::Owner(OwnerError::OtherSystem { .. }) => "other-system",
            Self::Owner(OwnerError::Unmarked { .. }) => "not-imported",
            Self::Owner(OwnerError::Unreadable { .. }) => "owner-mark",
            Self::Mismatch(_) => "mismatch",
            Self::Conflict { .. } => OTHER_CONTENT,
            Self::ReadBack {
                source: UnpackError::Store(error),
                ..
            } => error.cause(),
            Self::ReadBack { .. } => "damaged",
            Self::Vanished { .. } => "vanished",
            Self::Lease(_) => "lost-claim",
            Self::Source(error) => error.cause(),
            Self::NoRoom { .. } => "no-room",
        }
    }

    /// Whether a person has to act before this can succeed.
    #[must_use]
    pub fn critical(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Mismatch(_) => true,
            Self::Owner(error) => !matches!(error, OwnerError::Store { .. }),
            Self::ReadBack { source, .. } => matches!(source, UnpackError::Damaged(_)),
            Self::Source(error) => error.lost().is_some(),
            Self::Store(_) | Self::Vanished { .. } | Self::Lease(_) | Self::NoRoom { .. } => false,
        }
    }

    /// When to try again, after `failures` failures before this one.
    #[must_use]
    pub fn retry_after(&self, failures: u32, base: Duration, max: Duration) -> Duration {
        match self {
            Self::NoRoom { .. } => base,
            // Nobody asked it, so nothing was learned: not the exponent of those who did.
            Self::Store(StoreError::BreakerOpen { wait, .. }) => (*wait).max(base),
            Self::Store(error) if error.retry() == Retry::Operator => max,
            _ if self.critical() => max,
            // Not before the cloud wants to be asked, but never later than the longest wait: it
            // may be well again long before.
            Self::Store(error) => {
                let asked = error.retry_after().unwrap_or_default();
                backoff(failures, base, max).max(asked).min(max)
            }
            _ => backoff(failures, base, max),
        }
    }
}

/// Exponential with jitter: between half and all of `base * 2^failures`, at most `max`.
#[must_use]
pub fn backoff(failures: u32, base: Duration, max: Duration) -> Duration {
    let full = base
        .saturating_mul(1_u32.checked_shl(failures.min(20)).unwrap_or(u32::MAX))
        .min(max);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// What every upload of one claim needs.
pub struct Upload<'a> {
    /// Where hashing and unpacking happen.
    pub pool: &'a PackPool,
    /// Told of an object of other content.
    pub foreign: &'a Foreign,
    /// The claim's lease: asked before the PUT.
    pub lease: &'a Lease,
    /// The object's key.
    pub key: &'a ObjectKey,
    /// The object's metadata.
    pub metadata: &'a ObjectMetadata,
    /// How a copy is proven.
    pub mode: VerifyMode,
}

impl Upload<'_> {
    /// Puts `packed` and proves it, or proves what is there already.
    ///
    /// # Errors
    /// [`CopyError`]. After an error of the PUT it is unknown whether the object is there;
    /// the next attempt finds out.
    pub async fn packed(
        &self,
        repository: &dyn Repository,
        packed: &Packed,
        expected: &Expected,
    ) -> Result<Verified, CopyError> {
        // A crash after this check and before the PUT leaves nothing; a zombie that passes
        // the check and is frozen here can only put this same segment's content.
        self.lease.check().await?;
        kill_point!("archive.put.before");
        let put = repository
            .put_new(
                self.key,
                packed.body.clone(),
                &self.metadata.to_map(),
                &packed.md5,
            )
            .await?;
        kill_point!("archive.put.after");
        match put {
            PutNew::Created(seen) => self.prove(repository, expected, seen).await,
            PutNew::Exists => self.adopt(repository, expected).await,
        }
    }

    /// Proves an object that this claim has just put; `seen` is what a HEAD after it reported.
    ///
    /// # Errors
    /// [`CopyError`]; the object stays where it is and the copy stays due.
    pub async fn prove(
        &self,
        repository: &dyn Repository,
        expected: &Expected,
        seen: Option<ObjectFacts>,
    ) -> Result<Verified, CopyError> {
        if self.mode == VerifyMode::Head {
            let facts = match seen {
                Some(facts) => facts,
                None => self.head(repository).await?,
            };
            kill_point!("archive.head.after");
            match self.by_head(repository, expected, &facts) {
                Ok(verified) => return Ok(verified),
                Err(mismatch) if mismatch.needs_read_back() => {}
                Err(mismatch) => return Err(mismatch.into()),
            }
        }
        let reported = self.read_back(repository).await?;
        kill_point!("read-back.get.after");
        Ok(Verified::compare(expected, reported, VerifyMode::ReadBack)?)
    }

    /// Proves an object that was there before: byte for byte ours, or the same content
    /// packed by somebody else.
    ///
    /// # Errors
    /// [`CopyError::Conflict`] when it is another content: never overwritten.
    pub async fn adopt(
        &self,
        repository: &dyn Repository,
        expected: &Expected,
    ) -> Result<Verified, CopyError> {
        if self.mode == VerifyMode::Head {
            let facts = self.head(repository).await?;
            if let Ok(verified) = self.by_head(repository, expected, &facts) {
                return Ok(verified);
            }
        }
        let object = self.get(repository).await?;
        kill_point!("adopt.get.after");
        let facts = object.facts.clone();
        let reason = match self.unpacked(repository, object).await {
            Ok(reported) => match Verified::adopt(expected.sha256, expected.plain_size, reported) {
                Ok(verified) => return Ok(verified),
                Err(mismatch) => mismatch.to_string(),
            },
            Err(CopyError::ReadBack {
                source: UnpackError::Damaged(reason),
                ..
            }) => format!("it does not unpack ({reason})"),
            Err(error) => return Err(error),
        };
        self.foreign
            .remember(repository.name(), self.key, facts, &reason);
        Err(self.conflict(repository, reason))
    }

    fn conflict(&self, repository: &dyn Repository, reason: String) -> CopyError {
        CopyError::Conflict {
            repository: repository.name().clone(),
            key: self.key.clone(),
            reason,
        }
    }

    async fn head(&self, repository: &dyn Repository) -> Result<ObjectFacts, CopyError> {
        repository
            .head(self.key)
            .await?
            .ok_or_else(|| CopyError::Vanished {
                repository: repository.name().clone(),
                key: self.key.clone(),
            })
    }

    fn by_head(
        &self,
        repository: &dyn Repository,
        expected: &Expected,
        facts: &ObjectFacts,
    ) -> Result<Verified, Mismatch> {
        let recorded: Option<Sha256> = ObjectMetadata::from_map(&facts.metadata)
            .ok()
            .map(|metadata| metadata.sha256);
        Verified::compare(
            expected,
            Reported {
                repository: repository.name().clone(),
                key: self.key.clone(),
                evidence: Evidence::Head {
                    size: facts.size,
                    etag: facts.etag.clone(),
                    sha256_metadata: recorded,
                },
            },
            VerifyMode::Head,
        )
    }

    async fn read_back(&self, repository: &dyn Repository) -> Result<Reported, CopyError> {
        let object = self.get(repository).await?;
        self.unpacked(repository, object).await
    }

    async fn get(&self, repository: &dyn Repository) -> Result<ObjectStream, CopyError> {
        repository
            .get(self.key)
            .await?
            .ok_or_else(|| CopyError::Vanished {
                repository: repository.name().clone(),
                key: self.key.clone(),
            })
    }

    async fn unpacked(
        &self,
        repository: &dyn Repository,
        object: ObjectStream,
    ) -> Result<Reported, CopyError> {
        let contents = unpack::contents(self.pool, object.body)
            .await
            .map_err(|source| CopyError::ReadBack {
                repository: repository.name().clone(),
                key: self.key.clone(),
                source,
            })?;
        Ok(Reported {
            repository: repository.name().clone(),
            key: self.key.clone(),
            evidence: Evidence::ReadBack {
                stored_size: contents.stored_size,
                stored_md5: contents.stored_md5,
                plain_sha256: contents.plain_sha256,
                plain_size: contents.plain_size,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn the_wait_doubles_with_each_failure_up_to_the_longest_and_is_spread() {
        for failures in 0..40 {
            let full = BASE.saturating_mul(1 << failures.min(10)).min(MAX);
            let waits: Vec<Duration> = (0..50).map(|_| backoff(failures, BASE, MAX)).collect();
            for wait in &waits {
                assert!(*wait >= full / 2 && *wait <= full, "{failures}: {wait:?}");
            }
            // Copies that failed together must not come back together.
            assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
        }
    }

    fn conflict() -> CopyError {
        CopyError::Conflict {
            repository: "b2".parse().expect("a name"),
            key: "wal/x.gz".parse().expect("a key"),
            reason: "another file".to_owned(),
        }
    }

    #[test]
    fn what_needs_a_person_waits_longest_and_what_lost_its_place_hardly_at_all() {
        let repository: RepositoryName = "b2".parse().expect("a name");
        assert!(conflict().critical());
        assert_eq!(conflict().retry_after(0, BASE, MAX), MAX);
        let wrong = CopyError::Store(StoreError::Configuration {
            at: walferry_store::At::new(&repository, "put", None),
            problem: "no such region".to_owned(),
            source: None,
        });
        assert_eq!(wrong.retry_after(0, BASE, MAX), MAX);
        let throttled = |seconds| {
            CopyError::Store(StoreError::Throttled {
                at: walferry_store::At::new(&repository, "put", None),
                said: walferry_store::Said::new(429, "SlowDown", ""),
                retry_after: Some(Duration::from_secs(seconds)),
            })
        };
        assert_eq!(
            throttled(7).retry_after(0, BASE, MAX),
            Duration::from_secs(7)
        );
        assert_eq!(throttled(3600).retry_after(0, BASE, MAX), MAX);
        assert!(throttled(0).retry_after(9, BASE, MAX) >= MAX / 2);
        let no_room = CopyError::NoRoom { repository };
        assert_eq!(no_room.retry_after(9, BASE, MAX), BASE);
        let lost = CopyError::Lease(LeaseLost::Lost);
        assert!(lost.retry_after(0, BASE, MAX) <= BASE);
        assert!(lost.retry_after(9, BASE, MAX) >= MAX / 2);
    }
}
