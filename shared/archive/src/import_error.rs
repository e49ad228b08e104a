//! Why an import stopped.

use walferry_catalog::CatalogError;
use walferry_pack::unpack::UnpackError;
use walferry_proof::{KeyPrefix, ObjectKey, RepositoryName};
use walferry_store::StoreError;
use walferry_wal::SystemId;

use crate::owner::OwnerError;

/// An import stopped. What was adopted stays adopted; run it again.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A repository failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The prefix is somebody else's.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// Reading an object was interrupted.
    #[error("read `{key}` back from `{repository}`")]
    Read {
        /// Where.
        repository: RepositoryName,
        /// Which object.
        key: ObjectKey,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// A mark, and a catalog that does not know yet whose it is.
    #[error(
        "prefix `{prefix}` in `{repository}` is marked as that of system {found} of cluster `{cluster}`, and this catalog does not know yet which system it archives. HINT: if it is this one (`SELECT system_identifier FROM pg_control_system()`), say so with `--system-id {found}`; otherwise give this cluster a prefix of its own"
    )]
    Unconfirmed {
        /// Where.
        repository: RepositoryName,
        /// Which prefix.
        prefix: KeyPrefix,
        /// The owner's cluster name.
        cluster: String,
        /// The owner.
        found: SystemId,
    },
    /// No mark, and whole segments of somebody else.
    #[error(
        "`{key}` in `{repository}` is a segment of system {found}, not of system {ours}, and no owner mark says whose the prefix is. HINT: nothing was adopted; give this cluster a prefix of its own"
    )]
    Stranger {
        /// Where.
        repository: RepositoryName,
        /// Which object.
        key: ObjectKey,
        /// Whose it is.
        found: SystemId,
        /// Whose the others are.
        ours: SystemId,
    },
    /// No segment says whose WAL this is.
    #[error(
        "prefix `{prefix}` holds no readable segment, so its system id is unknown. HINT: archive a segment of the cluster first, or give the cluster another prefix"
    )]
    NoSystem {
        /// Which prefix.
        prefix: String,
    },
}
