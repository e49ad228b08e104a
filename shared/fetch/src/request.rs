//! What is asked for, and whom.

use std::path::PathBuf;
use std::sync::Arc;

use walferry_proof::KeyPrefix;
use walferry_store::ReadRepository;
use walferry_wal::{SystemId, WalFile};

/// `%f` and `%p`, and what the command line adds.
#[derive(Clone, Debug)]
pub struct Request {
    pub file: WalFile,
    /// Where it is to lie.
    pub destination: PathBuf,
    /// The last file that the recovery needs: absent up to it is a gap, beyond it final.
    pub last: Option<WalFile>,
    /// The system whose data directory asks; without one the owner marks say whose WAL it is.
    pub system: Option<SystemId>,
}

/// A cluster's WAL in the repositories that have to answer, in the order of asking.
#[derive(Clone)]
pub struct Archive {
    pub prefix: KeyPrefix,
    /// At least one: nobody asked has not said that anything is absent.
    pub repositories: Vec<Arc<dyn ReadRepository>>,
}
