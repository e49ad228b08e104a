//! The clusters: their rows in the catalog, what lies in their directories, what became of it.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use walferry_bench::statistics::Times;
use walferry_catalog::intake::LocalStat;
use walferry_catalog::{Catalog, CatalogError, ClusterId, DirectoryId, PrefixId};
use walferry_catalog::{clusters, repositories};
use walferry_proof::RepositoryName;
use walferry_wal::WalFile;

/// Bytes of a segment.
pub(crate) const SEGMENT: u64 = 16 << 20;

/// One cluster.
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) name: String,
    pub(crate) prefix: PrefixId,
    pub(crate) directory: DirectoryId,
    /// What lies in its directory, and since when.
    pub(crate) files: Mutex<HashMap<WalFile, (LocalStat, Instant)>>,
    handed: AtomicU64,
}

/// What all simulated workers share.
pub(crate) struct Site {
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) repositories: Vec<RepositoryName>,
    /// How long a thread packs one segment.
    pub(crate) pack: Duration,
    /// How long one copy takes, PUT and HEAD; both are made side by side.
    pub(crate) upload: Duration,
    pub(crate) counts: Counts,
    verified: Mutex<HashMap<(usize, WalFile), Duration>>,
    lags: Mutex<Times>,
}

/// What happened since the last look.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) jobs: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) handed: AtomicU64,
    pub(crate) verified: AtomicU64,
    /// Files that were completed a second time.
    pub(crate) twice: AtomicU64,
    /// Why a job or a claim failed, the last one.
    pub(crate) error: Mutex<String>,
}

impl Site {
    /// Registers `number` clusters in the catalog, as a worker's start does.
    pub(crate) async fn register(
        catalog: &Catalog,
        number: usize,
        pack: Duration,
        upload: Duration,
    ) -> Result<Site, CatalogError> {
        let names = ["r2", "b2"].map(|name| name.parse().expect("a repository's name"));
        let mut conn = catalog.get().await?;
        repositories::ensure_repositories(&mut conn, &names).await?;
        let mut made = Vec::with_capacity(number);
        for at in 0..number {
            let name = format!("c{at:05}");
            let prefix = format!("{name}/").parse().expect("a prefix");
            let cluster = clusters::ensure_cluster(&mut conn, &name, &prefix).await?;
            let path = format!("/archive/{name}");
            let directory =
                clusters::ensure_directory(&mut conn, cluster.id, "main", &path).await?;
            made.push(Cluster {
                id: cluster.id,
                name,
                prefix: cluster.prefix.id,
                directory,
                files: Mutex::default(),
                handed: AtomicU64::new(0),
            });
        }
        Ok(Site {
            clusters: made,
            repositories: names.to_vec(),
            pack,
            upload,
            counts: Counts::default(),
            verified: Mutex::default(),
            lags: Mutex::default(),
        })
    }

    /// PostgreSQL of cluster `at` renames its next segment into the directory, at `moment`.
    pub(crate) fn hand_over(&self, at: usize, moment: Instant) {
        use std::sync::atomic::Ordering::Relaxed;
        let cluster = &self.clusters[at];
        let number = cluster.handed.fetch_add(1, Relaxed) + 1;
        let name = format!("00000001{:08X}{:08X}", number / 256, number % 256);
        let file = name.parse().expect("a segment's name");
        let stat = LocalStat {
            dev: 1,
            ino: (at as u64) << 32 | number,
            size: SEGMENT,
            mtime_ns: chrono::Utc::now().timestamp_nanos_opt().unwrap_or_default(),
        };
        locked(&cluster.files).insert(file, (stat, moment));
        self.counts.handed.fetch_add(1, Relaxed);
    }

    /// The commit that made `file` VERIFIED has returned.
    pub(crate) fn verified(&self, at: usize, file: WalFile) {
        use std::sync::atomic::Ordering::Relaxed;
        let since = locked(&self.clusters[at].files)
            .get(&file)
            .map(|known| known.1);
        let lag = since.map(|since| since.elapsed()).unwrap_or_default();
        if since.is_none() || locked(&self.verified).insert((at, file), lag).is_some() {
            self.counts.twice.fetch_add(1, Relaxed);
            return;
        }
        self.counts.verified.fetch_add(1, Relaxed);
        locked(&self.lags).add(lag);
    }

    /// The lags since the last call.
    pub(crate) fn take_lags(&self) -> Times {
        std::mem::take(&mut locked(&self.lags))
    }

    /// Handed over and not VERIFIED.
    pub(crate) fn outstanding(&self) -> u64 {
        use std::sync::atomic::Ordering::Relaxed;
        let verified = self.counts.verified.load(Relaxed);
        self.counts.handed.load(Relaxed).saturating_sub(verified)
    }
}

/// A mutex that nobody panicked under, or whose content does not mind.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
