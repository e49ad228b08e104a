//! What the worker is made of, built from the configuration. Nothing here connects: a
//! worker starts with Redis, catalog or clouds down, and says so on its health port.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use walferry_archive::{
    archiver::{Archiver, Served, ServedDirectory, Settings, Target},
    register::Range,
};
use walferry_catalog::{Catalog, CatalogSettings, clusters, repositories, server};
use walferry_config::{Share, WorkerConfig};
use walferry_observe::Metrics;
use walferry_pack::pool::PackPool;
use walferry_proof::KeyPrefix;
use walferry_queue::{Queue, QueueName, WorkerIdentity};
use walferry_store::{Breaker, BreakerSettings, Metered};
use walferry_wal::SystemId;

use crate::observers::{ArchiveMetrics, StoreMetrics};

/// One directory that this worker serves.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Its cluster.
    pub cluster: String,
    /// The cluster's prefix in the buckets.
    pub prefix: KeyPrefix,
    /// The cluster's queue.
    pub queue: QueueName,
    /// Its name in the configuration.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

impl std::fmt::Display for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (cluster, name, path) = (&self.cluster, &self.name, self.path.display());
        write!(f, "{cluster}/{name}={path}")
    }
}

/// The worker's parts. Cheap to clone.
#[derive(Clone)]
pub struct Setup {
    /// Who claims, in the catalog's rows and in the queue.
    pub worker: String,
    /// The same for the queue.
    pub identity: WorkerIdentity,
    /// The pipeline.
    pub archiver: Archiver,
    /// The packing threads: the pipeline's, and those of base backups.
    pub pool: PackPool,
    /// The queues that are served.
    pub queues: Arc<Vec<Queue>>,
    /// The directories that are served.
    pub directories: Arc<Vec<Directory>>,
    /// The configuration.
    pub config: Arc<WorkerConfig>,
    served: Arc<OnceCell<Vec<Served>>>,
    catalog_system: Arc<OnceCell<SystemId>>,
    retention_followed: Arc<Mutex<Option<Instant>>>,
}

impl Setup {
    /// Builds the parts; `finished` ends the renewing of claims.
    ///
    /// # Errors
    /// When a part refuses its settings.
    pub fn new(
        config: &WorkerConfig,
        metrics: &Metrics,
        finished: CancellationToken,
    ) -> anyhow::Result<Self> {
        let mut identity = WorkerIdentity::of_this_process(&config.worker.queues);
        if let Some(id) = &config.worker.id {
            // A configured name alone would let two workers of one name pass for one another.
            identity.id = format!("{id}:{}", identity.id);
        }
        let directories = directories(config)?;
        identity.serves = directories.iter().map(ToString::to_string).collect();
        let worker = identity.id.clone();
        let catalog = Catalog::new(catalog_settings(config)).context("read the catalog's URL")?;
        let targets = config
            .repositories
            .iter()
            .map(|repository| {
                let store = walferry_store::s3(&repository.s3)?;
                let metered = Metered::new(store, Arc::new(StoreMetrics(metrics.clone())));
                Ok(Target {
                    store: Arc::new(Breaker::new(Arc::new(metered), BreakerSettings::default())),
                    required: repository.required,
                })
            })
            .collect::<Result<Vec<_>, walferry_store::StoreError>>()
            .context("set up the repositories")?;
        let pool =
            PackPool::start(config.worker.pack_threads).context("start the packing threads")?;
        let (archiver, _renewing) = Archiver::new(
            settings(config, &worker),
            catalog,
            targets,
            pool.clone(),
            Arc::new(ArchiveMetrics(metrics.clone())),
            finished,
        );
        let queues = config
            .worker
            .queues
            .iter()
            .map(|name| {
                Queue::new(
                    config.redis.settings.clone(),
                    name.clone(),
                    config.queue.settings.clone(),
                )
            })
            .collect::<Result<Vec<_>, _>>()
            .context("address the queues")?;
        Ok(Self {
            worker,
            identity,
            archiver,
            pool,
            queues: Arc::new(queues),
            directories: Arc::new(directories),
            config: Arc::new(config.clone()),
            served: Arc::default(),
            catalog_system: Arc::default(),
            retention_followed: Arc::default(),
        })
    }

    /// The queue of that name, if it is served here.
    #[must_use]
    pub fn queue(&self, name: &QueueName) -> Option<&Queue> {
        self.queues.iter().find(|queue| queue.name() == name)
    }

    /// Whether retention is to follow now, at most once in `every`; counts as followed then.
    #[must_use]
    pub fn retention_follows(&self, every: Duration) -> bool {
        let mut last = self
            .retention_followed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let follows = last.is_none_or(|last| last.elapsed() >= every);
        if follows {
            *last = Some(Instant::now());
        }
        follows
    }

    /// The clusters and directories with their rows; made on first use, when the catalog
    /// answers.
    ///
    /// # Errors
    /// When the catalog does not answer or contradicts the configuration.
    pub async fn served(&self) -> anyhow::Result<&[Served]> {
        self.served
            .get_or_try_init(|| self.enrol())
            .await
            .map(Vec::as_slice)
    }

    async fn enrol(&self) -> anyhow::Result<Vec<Served>> {
        let mut conn = self.archiver.catalog().get().await?;
        let names: Vec<_> = self
            .config
            .repositories
            .iter()
            .map(|repository| repository.name.clone())
            .collect();
        repositories::ensure_repositories(&mut conn, &names).await?;
        let mut served: Vec<Served> = Vec::new();
        for directory in self.directories.iter() {
            let cluster =
                clusters::ensure_cluster(&mut conn, &directory.cluster, &directory.prefix).await?;
            let id = clusters::ensure_directory(
                &mut conn,
                cluster.id,
                &directory.name,
                &directory.path.display().to_string(),
            )
            .await?;
            let entry = ServedDirectory {
                id,
                name: directory.name.clone(),
                path: directory.path.clone(),
            };
            match served.iter_mut().find(|known| known.id == cluster.id) {
                Some(known) => known.directories.push(entry),
                None => served.push(Served {
                    id: cluster.id,
                    name: cluster.name,
                    directories: vec![entry],
                    range: Range::default(),
                }),
            }
        }
        Ok(served)
    }

    /// Cataloging into the very server that is archived makes WAL, for ever, and losing that
    /// server would lose the catalog with it.
    ///
    /// # Errors
    /// When the catalog's server is one of the clusters' and the setting does not allow it.
    pub async fn refuse_catalog_on_protected_server(&self) -> anyhow::Result<()> {
        if self.config.catalog.allow_same_server {
            return Ok(());
        }
        let mut conn = self.archiver.catalog().get().await?;
        let own = self
            .catalog_system
            .get_or_try_init(|| server::system_id(&mut conn))
            .await?;
        let protected = clusters::clusters(&mut conn)
            .await?
            .into_iter()
            .find(|cluster| cluster.prefix.system_id == Some(*own));
        match protected {
            None => Ok(()),
            Some(cluster) => anyhow::bail!(
                "the catalog stands on the very server that it protects (cluster `{}`, system {own}), so nothing is archived. HINT: move it to another PostgreSQL instance and set DATABASE_URL, or set catalog.allow_same_server",
                cluster.name
            ),
        }
    }
}

/// Enrols the worker's clusters as soon as the catalog answers, so that the first job finds
/// them, and looks once whether the catalog stands on a server that it protects.
pub async fn prepare(setup: Setup, shutdown: CancellationToken) {
    let mut wait = Duration::from_millis(200);
    while let Err(error) = setup.served().await {
        tracing::warn!(
            error = format!("{error:#}"),
            "the catalog is not ready; trying again"
        );
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// The catalog's settings out of the worker's configuration.
#[must_use]
pub fn catalog_settings(config: &WorkerConfig) -> CatalogSettings {
    CatalogSettings {
        pool_size: usize::try_from(config.catalog.connections).unwrap_or(8),
        connect_timeout: config.catalog.connect_timeout,
        statement_timeout: config.catalog.statement_timeout,
        ..CatalogSettings::new(config.catalog.url.clone(), "walferry-worker")
    }
}

/// Of the usual size. While a segment is packed its whole size is spoken for, and most of that
/// given back afterwards: one for each thread, and one for what is on its way to the clouds.
const A_SEGMENT: u64 = 16 << 20;

fn settings(config: &WorkerConfig, worker: &str) -> Settings {
    Settings {
        worker: worker.to_owned(),
        level: config.archive.level,
        whole_limit: config.archive.streaming_threshold,
        verify: config.archive.verify,
        claim_lease: config.archive.claim_lease,
        claim_renew: config.archive.claim_renew,
        in_flight: config.worker.segments_in_flight,
        claim_batch: config.archive.claim_batch,
        memory: config
            .archive
            .memory_limit
            .unwrap_or((config.worker.pack_threads as u64 + 1) * A_SEGMENT),
        delete_after_one_copy_above: config.archive.delete_after_one_copy_above.map(Share::get),
        retry_base: config.archive.retry_base,
        retry_max: config.archive.retry_max,
    }
}

fn directories(config: &WorkerConfig) -> anyhow::Result<Vec<Directory>> {
    config
        .worker
        .directories
        .iter()
        .map(|served| {
            let cluster = config
                .clusters
                .get(&served.cluster)
                .with_context(|| format!("cluster `{}` is not configured", served.cluster))?;
            let directory = cluster
                .directories
                .iter()
                .find(|directory| directory.name == served.directory)
                .with_context(|| {
                    format!(
                        "directory `{}` of cluster `{}` is not configured",
                        served.directory, served.cluster
                    )
                })?;
            Ok(Directory {
                cluster: cluster.name.clone(),
                prefix: cluster.prefix.clone(),
                queue: cluster.queue.clone(),
                name: directory.name.clone(),
                path: directory.path.clone(),
            })
        })
        .collect()
}
