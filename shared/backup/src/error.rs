//! Why there is no base backup.

use walferry_archive::owner::OwnerError;
use walferry_base::TakeError;
use walferry_catalog::CatalogError;
use walferry_replication::ReplicationError;
use walferry_wal::SystemId;

use crate::histories::HistoryError;

/// No base was taken.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("the server of cluster `{cluster}` gives no base backup")]
    Server {
        cluster: String,
        #[source]
        source: ReplicationError,
    },
    /// The prefix belongs to somebody else.
    #[error(
        "the server at {server} is system {found}, and cluster `{cluster}` is system {ours}. HINT: compare clusters.{cluster}.replication with the server that archives; after pg_upgrade, run `walferry cluster upgrade`"
    )]
    OtherSystem {
        cluster: String,
        server: String,
        found: SystemId,
        ours: SystemId,
    },
    /// No repository may be written to.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("take the base backup")]
    Take(#[from] TakeError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The catalog was away for so long that another run began.
    #[error("another run took over while this one could not reach the catalog")]
    LeaseLost,
    #[error("the base backup was cancelled")]
    Cancelled,
}
