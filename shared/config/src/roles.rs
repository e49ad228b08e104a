use crate::config::Config;
use crate::problem::Problems;
use crate::sections::{
    Archive, CatalogSettings, Clusters, Log, QueueTuning, Redis, Repositories, Retention,
    Scheduler, Spool, Thresholds, Worker,
};

/// What a worker needs: everything but the scheduler's section.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    pub clusters: Clusters,
    pub repositories: Repositories,
    pub catalog: CatalogSettings,
    pub redis: Redis,
    pub queue: QueueTuning,
    pub worker: Worker,
    pub archive: Archive,
    pub spool: Spool,
    pub retention: Retention,
    pub thresholds: Thresholds,
    pub log: Log,
}

/// What the scheduler needs: no cloud key, no catalog.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    pub clusters: Clusters,
    pub redis: Redis,
    pub queue: QueueTuning,
    pub scheduler: Scheduler,
    pub log: Log,
}

/// What `push` needs: the directory.
#[derive(Clone, Debug)]
pub struct PushConfig {
    pub clusters: Clusters,
    pub spool: Spool,
}

impl Config {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn worker(&self) -> Result<WorkerConfig, Problems> {
        let (clusters, repositories, catalog, redis, queue, worker, archive, spool, rest) =
            self.get()?;
        let (retention, thresholds, log) = rest;
        Ok(WorkerConfig {
            clusters,
            repositories,
            catalog,
            redis,
            queue,
            worker,
            archive,
            spool,
            retention,
            thresholds,
            log,
        })
    }

    /// # Errors
    /// Everything that is wrong with it.
    pub fn scheduler(&self) -> Result<SchedulerConfig, Problems> {
        let (clusters, redis, queue, scheduler, log) = self.get()?;
        Ok(SchedulerConfig {
            clusters,
            redis,
            queue,
            scheduler,
            log,
        })
    }

    /// Goes on in spite of unknown names: a typing error in the worker's part
    /// of a shared file must not stop the hand-over of WAL.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn push(&self) -> Result<PushConfig, Problems> {
        let (clusters, spool) = self.get_tolerant()?;
        Ok(PushConfig { clusters, spool })
    }
}
