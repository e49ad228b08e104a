//! What came of the copies of one claim: proofs, and failures with when to try again.

use walferry_catalog::{claims::Claim, completion::CopyFailure};
use walferry_proof::{RepositoryName, Verified};

use crate::{archiver::Archiver, local, upload::CopyError};

/// What came of the copies of one claim.
pub(crate) struct Copied {
    pub(crate) verified: Vec<Verified>,
    pub(crate) failures: Vec<CopyFailure>,
    /// The local file whose content this attempt has hashed.
    pub(crate) hashed: Option<local::Here>,
}

impl Copied {
    pub(crate) fn nothing() -> Self {
        Self {
            verified: Vec::new(),
            failures: Vec::new(),
            hashed: None,
        }
    }

    pub(crate) fn add(
        &mut self,
        archiver: &Archiver,
        claim: &Claim,
        name: RepositoryName,
        result: Result<Verified, CopyError>,
    ) {
        let error = match result {
            Ok(verified) => {
                archiver.0.observer.copy(&name, true);
                self.verified.push(verified);
                return;
            }
            Err(error) => error,
        };
        if !matches!(error, CopyError::NoRoom { .. }) {
            archiver.0.observer.copy(&name, false);
            if error.critical() {
                tracing::error!(segment.name = %claim.file, repository.name = %name,
                    error = &error as &dyn std::error::Error, "the copy needs a person");
            } else {
                tracing::warn!(segment.name = %claim.file, repository.name = %name,
                    error = &error as &dyn std::error::Error, "the copy was not made; it stays due");
            }
        }
        self.fail(archiver, claim, name, &error);
    }

    /// Notes that the copy in `name` is still due.
    pub(crate) fn fail(
        &mut self,
        archiver: &Archiver,
        claim: &Claim,
        name: RepositoryName,
        error: &CopyError,
    ) {
        let settings = &archiver.0.settings;
        let attempts = claim
            .copies
            .iter()
            .find(|copy| copy.repository == name)
            .map_or(0, |copy| copy.attempts);
        self.failures.push(CopyFailure {
            repository: name,
            error: chain(error),
            cause: error.cause().to_owned(),
            retry_after: error.retry_after(attempts, settings.retry_base, settings.retry_max),
        });
    }

    /// Both together.
    pub(crate) fn join(&mut self, other: Self) {
        self.verified.extend(other.verified);
        self.failures.extend(other.failures);
        self.hashed = other.hashed.or(self.hashed.take());
    }
}

/// The error and its causes as one sentence.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
