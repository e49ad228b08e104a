//! What the steps share: one value per worker process, cheap to clone.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use walferry_catalog::{Catalog, ClusterId, DirectoryId};
use walferry_pack::pool::PackPool;
use walferry_proof::{RepositoryName, VerifyMode};
use walferry_spool::Directory;
use walferry_store::{Breaker, BreakerState};

use crate::{
    foreign::Foreign, lanes::Lanes, leases::Leases, owner::OwnerMarks, register::Range,
    stages::Stage,
};

/// How a worker archives.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who claims, for the catalog's rows.
    pub worker: String,
    /// gzip level, 1 to 9.
    pub level: u8,
    /// Files up to this many bytes are packed whole; larger ones are streamed.
    pub whole_limit: u64,
    /// How a copy is proven.
    pub verify: VerifyMode,
    /// How long a claim lasts without renewal.
    pub claim_lease: Duration,
    /// How often claims are renewed.
    pub claim_renew: Duration,
    /// Segments on their way at once, and uploads per repository.
    pub in_flight: usize,
    /// Segments claimed by one statement, at most.
    pub claim_batch: usize,
    /// Bytes of memory for what is packed and not yet uploaded. The buffers of the packing
    /// threads come on top: two pieces for each.
    pub memory: u64,
    /// Share of the file system above which one verified copy is enough to delete.
    pub delete_after_one_copy_above: Option<f64>,
    /// First wait after a failed copy.
    pub retry_base: Duration,
    /// Longest wait after a failed copy.
    pub retry_max: Duration,
}

/// A cluster whose directories this worker serves.
#[derive(Clone, Debug)]
pub struct Served {
    /// The cluster's row.
    pub id: ClusterId,
    /// Its name in the configuration.
    pub name: String,
    /// The directories on this host.
    pub directories: Vec<ServedDirectory>,
    /// Which of the files there; a backfill may want a part.
    pub range: Range,
}

/// One archive directory on this host.
#[derive(Clone, Debug)]
pub struct ServedDirectory {
    /// The directory's row.
    pub id: DirectoryId,
    /// Its name in the configuration.
    pub name: String,
    /// Where it is. Opened anew for each scan: it may be removed and come back.
    pub path: PathBuf,
}

impl ServedDirectory {
    /// Opens it.
    ///
    /// # Errors
    /// When it is not there or not readable.
    pub fn open(&self) -> Result<Directory, walferry_spool::DirectoryError> {
        Directory::open(&self.path)
    }
}

/// Told what happened, for metrics.
pub trait Observer: Send + Sync + 'static {
    /// A file is VERIFIED in every required repository.
    fn archived(&self, cluster: &str, plain: u64, stored: u64, elapsed: Duration);
    /// A file spent this time in a stage.
    fn spent(&self, stage: Stage, time: Duration);
    /// A copy was made, or not.
    fn copy(&self, repository: &RepositoryName, success: bool);
    /// A claim began (`claimed`) or ended.
    fn claim(&self, outcome: &'static str);
    /// A claim began whose predecessor had run out: its worker gave no more sign of life.
    fn taken_over(&self);
}

/// The pipeline of one worker process.
#[derive(Clone)]
pub struct Archiver(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) catalog: Catalog,
    pub(crate) repositories: Vec<Target>,
    pub(crate) pool: PackPool,
    pub(crate) lanes: Lanes,
    pub(crate) leases: Leases,
    pub(crate) owners: OwnerMarks,
    pub(crate) foreign: Foreign,
    pub(crate) observer: Arc<dyn Observer>,
}

/// A repository to archive into.
#[derive(Clone)]
pub struct Target {
    /// The repository behind its breaker.
    pub store: Arc<Breaker>,
    /// Whether VERIFIED needs it.
    pub required: bool,
}

impl Archiver {
    /// Joins the parts and starts renewing leases; `stop` ends that, after the last claim.
    #[must_use]
    pub fn new(
        settings: Settings,
        catalog: Catalog,
        repositories: Vec<Target>,
        pool: PackPool,
        observer: Arc<dyn Observer>,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (leases, renewing) = Leases::start(
            catalog.clone(),
            settings.claim_lease,
            settings.claim_renew,
            stop,
        );
        let lanes = Lanes::new(
            settings.in_flight,
            settings.memory,
            repositories.iter().map(|target| target.name().clone()),
        );
        let archiver = Self(Arc::new(Inner {
            settings,
            catalog,
            repositories,
            pool,
            lanes,
            leases,
            owners: OwnerMarks::default(),
            foreign: Foreign::default(),
            observer,
        }));
        (archiver, renewing)
    }

    /// The repositories that a copy could be sent to now.
    #[must_use]
    pub fn repositories_up(&self) -> Vec<RepositoryName> {
        self.0
            .repositories
            .iter()
            .filter(|target| target.up() && self.0.lanes.has_room(target.name()))
            .map(|target| target.name().clone())
            .collect()
    }

    /// The names of the repositories that VERIFIED needs.
    #[must_use]
    pub fn required(&self) -> Vec<RepositoryName> {
        self.0
            .repositories
            .iter()
            .filter(|target| target.required)
            .map(|target| target.name().clone())
            .collect()
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    /// Every repository.
    #[must_use]
    pub fn repositories(&self) -> &[Target] {
        &self.0.repositories
    }

    pub(crate) fn target(&self, name: &RepositoryName) -> Option<&Target> {
        self.0
            .repositories
            .iter()
            .find(|target| target.name() == name)
    }
}

impl Target {
    /// The repository's name.
    #[must_use]
    pub fn name(&self) -> &RepositoryName {
        walferry_store::ReadRepository::name(self.store.as_ref())
    }

    /// Whether its breaker lets a request through.
    #[must_use]
    pub fn up(&self) -> bool {
        !matches!(self.store.state(), BreakerState::Open { .. })
    }
}
