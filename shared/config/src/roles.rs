use crate::config::Config;
use crate::problem::Problems;
use crate::sections::{
    Archive, ArchiveDirectory, Backup, CatalogSettings, Clusters, Connections, Log,
    PushDirectories, QueueTuning, Redis, Repositories, Retention, Scheduler, Spool, Thresholds,
    Worker,
};

/// What a worker needs: everything but the sections of the scheduler and of `push`.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    pub clusters: Clusters,
    pub connections: Connections,
    pub repositories: Repositories,
    pub catalog: CatalogSettings,
    pub redis: Redis,
    pub queue: QueueTuning,
    pub worker: Worker,
    pub archive: Archive,
    pub backup: Backup,
    pub retention: Retention,
    pub thresholds: Thresholds,
    pub log: Log,
}

/// What the scheduler needs: no cloud key, no catalog, no protected server.
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
    pub directories: Vec<ArchiveDirectory>,
    pub spool: Spool,
}

impl Config {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn worker(&self) -> Result<WorkerConfig, Problems> {
        let (clusters, connections, repositories, catalog, redis, queue, worker, archive, rest) =
            self.get()?;
        let (backup, retention, thresholds, log) = rest;
        Ok(WorkerConfig {
            clusters,
            connections,
            repositories,
            catalog,
            redis,
            queue,
            worker,
            archive,
            backup,
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
        let (directories, spool) = self.get_tolerant()?;
        let PushDirectories(directories) = directories;
        Ok(PushConfig { directories, spool })
    }
}
