//! Why it is not known whether a file exists, or why it could not be handed over.

use walferry_layout::OwnerMarkError;
use walferry_pack::unpack::UnpackError;
use walferry_proof::{ObjectKey, RepositoryName};
use walferry_store::StoreError;
use walferry_wal::{SystemId, WalFile};

use crate::check::Mismatch;
use crate::place::PlaceError;

/// One of the reasons; each of them is no proof that the file does not exist.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A repository did not answer, or not with an answer.
    #[error("{}", .0.report())]
    Store(StoreError),
    /// The bucket answers, but nothing shows that it is the right one.
    #[error(
        "`{repository}` has no owner mark `{key}`. HINT: the bucket is empty, or its name or the cluster's prefix is misspelt: check both settings"
    )]
    NoMark {
        repository: RepositoryName,
        key: ObjectKey,
    },
    #[error("the owner mark `{key}` in `{repository}` cannot be read")]
    BadMark {
        repository: RepositoryName,
        key: ObjectKey,
        #[source]
        source: MarkError,
    },
    #[error(
        "the prefix in `{repository}` is that of system {found}, not of {expected}. HINT: check the cluster's prefix, and --cluster"
    )]
    OtherSystem {
        repository: RepositoryName,
        expected: SystemId,
        found: SystemId,
    },
    /// Something that could not be there without the file.
    #[error(
        "a gap: `{file}` is in no repository that was asked, but {evidence} in `{repository}`. HINT: `walferry gaps` and `walferry verify` tell what is missing; another repository may have it"
    )]
    Gap {
        file: WalFile,
        repository: RepositoryName,
        evidence: String,
    },
    #[error(
        "a gap: `{file}` is in no repository that was asked, and the recovery needs WAL up to `{last}` (--last)"
    )]
    Needed { file: WalFile, last: WalFile },
    /// It was not there and is now, or one of two requests was wrong.
    #[error("`{repository}` lists `{key}` and says that it is not there")]
    Contradiction {
        repository: RepositoryName,
        key: ObjectKey,
    },
    #[error("the history file `{key}` in `{repository}` cannot be read, so no gap can be excluded")]
    History {
        repository: RepositoryName,
        key: ObjectKey,
        #[source]
        source: Mismatch,
    },
    /// The copy is not what it should be; it was not delivered.
    #[error("the copy `{key}` in `{repository}` is damaged and was not delivered")]
    Damaged {
        repository: RepositoryName,
        key: ObjectKey,
        #[source]
        source: Mismatch,
    },
    /// This machine's fault.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

/// Why an owner mark says nothing.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    #[error(transparent)]
    Read(#[from] UnpackError),
    #[error(transparent)]
    Parse(#[from] OwnerMarkError),
}

impl Problem {
    /// The error and its causes in one line, and what to do about it at the end.
    #[must_use]
    pub fn line(&self) -> String {
        crate::report::line(self)
    }
}
