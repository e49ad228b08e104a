//! Numbers that are read from the catalog, not counted: backlog, RPO, lag, directory use.

use std::{collections::HashMap, time::Duration};

use chrono::Utc;
use tokio_util::sync::CancellationToken;
use walferry_catalog::{
    Cluster, Conn, bases, claims, clusters,
    protected::{Rpo, Server},
    repositories, status, suspects,
};
use walferry_observe::Metrics;
use walferry_proof::RepositoryName;

use crate::setup::Setup;

/// The protected servers that a connection is configured to, by cluster.
type Servers = HashMap<String, Server>;

/// Between two readings. Every query is bounded by unfinished rows, not by the archive.
const EVERY: Duration = Duration::from_secs(10);
/// The status counts read every row, so they come less often.
const EVERY_COUNT: u32 = 6;

/// Runs until `shutdown`.
pub async fn run(setup: Setup, metrics: Metrics, shutdown: CancellationToken) {
    // None: the status counts are due at the next reading.
    let mut counted: Option<u32> = None;
    let servers: Servers = setup
        .config
        .clusters
        .iter()
        .filter_map(|cluster| {
            let url = setup.config.connections.get(&cluster.name)?;
            let server = Server::new(url, &setup.worker);
            Some((cluster.name.clone(), server.ok()?))
        })
        .collect();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        rpo(&setup, &metrics, &servers).await;
        let count = counted.is_none_or(|turns| turns + 1 >= EVERY_COUNT);
        counted = match read(&setup, &metrics, count).await {
            Ok(()) if count => Some(0),
            Ok(()) => counted.map(|turns| turns + 1),
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "the gauges could not be read");
                metrics.catalog_unknown();
                None
            }
        };
    }
}

async fn read(setup: &Setup, metrics: &Metrics, count: bool) -> anyhow::Result<()> {
    let served = setup.served().await?;
    let mut conn = setup.archiver.catalog().get().await?;
    let rows = match count {
        true => clusters::clusters(&mut conn).await?,
        false => Vec::new(),
    };
    for cluster in served {
        for repository in status::repositories(&mut conn, Some(cluster.id)).await? {
            let oldest = repository.behind_since.map_or(Duration::ZERO, age);
            metrics.backlog(
                &cluster.name,
                repository.repository.as_str(),
                repository.due,
                oldest,
            );
        }
        let suspects = suspects::count(&mut conn, cluster.id).await?;
        metrics.suspects(&cluster.name, suspects);
        let backlog = claims::backlog(&mut conn, Some(cluster.id)).await?;
        metrics.lag(&cluster.name, backlog.oldest.map_or(Duration::ZERO, age));
        if count {
            let counts = status::counts(&mut conn, Some(cluster.id)).await?;
            for (status, files) in [
                ("PENDING", counts.pending),
                ("VERIFIED", counts.verified),
                ("EXPIRING", counts.expiring),
            ] {
                metrics.status_count(&cluster.name, status, files);
            }
            if let Some(row) = rows.iter().find(|row| row.id == cluster.id) {
                bases(&mut conn, row, metrics).await?;
            }
        }
        for directory in clusters::directories(&mut conn, Some(cluster.id)).await? {
            if directory.scan_error.is_some() {
                metrics.spool_unknown(&cluster.name, &directory.name);
                continue;
            }
            let (Some(files), Some(bytes), Some(total @ 1..), Some(available)) = (
                directory.files,
                directory.bytes,
                directory.fs_total,
                directory.fs_available,
            ) else {
                continue;
            };
            let used = 1.0 - available as f64 / total as f64;
            metrics.spool(&cluster.name, &directory.name, files, bytes, used);
        }
    }
    Ok(())
}

/// Ages, sizes and failures of base backups, in the cluster's open prefix.
async fn bases(conn: &mut Conn, cluster: &Cluster, metrics: &Metrics) -> anyhow::Result<()> {
    let found = bases::list(conn, cluster.prefix.id).await?;
    let in_repository = |row: &bases::BaseRow, repository: &RepositoryName| {
        let complete = |copy: &bases::BaseCopy| {
            copy.repository == *repository && copy.state == bases::BaseCopyState::Complete
        };
        row.copies.iter().any(complete)
    };
    for repository in repositories::list(conn).await? {
        let newest = found
            .iter()
            .find(|row| in_repository(row, &repository.name));
        let newest = newest.map(|row| age(row.base.stopped_at));
        metrics.base_backup_age(&cluster.name, repository.name.as_str(), newest);
    }
    if let Some(newest) = found.first().map(|row| &row.base) {
        let took = (newest.stopped_at - newest.started_at).to_std();
        metrics.base_backup(
            &cluster.name,
            newest.size,
            newest.stored_size,
            took.unwrap_or_default(),
        );
    }
    if let Some(run) = bases::last_run(conn, cluster.id).await? {
        metrics.base_backup_failures(&cluster.name, run.failures);
    }
    Ok(())
}

/// Without an answer of the protected server the RPO is unknown, never good.
async fn rpo(setup: &Setup, metrics: &Metrics, servers: &Servers) {
    for directory in setup.directories.iter() {
        let cluster = &directory.cluster;
        let asked = async {
            let server = servers.get(cluster)?.ask().await.ok()?;
            let mut conn = setup.archiver.catalog().get().await.ok()?;
            let rows = clusters::clusters(&mut conn).await.ok()?;
            let row = rows.into_iter().find(|row| row.name == *cluster)?;
            let reach = status::reach(&mut conn, &row.prefix).await.ok()?;
            match server.rpo(&row.prefix, &reach) {
                Rpo::Age(age) => Some(age),
                Rpo::NothingVerified | Rpo::OtherSystem(_) => None,
            }
        };
        metrics.rpo(cluster, asked.await);
    }
}

fn age(at: chrono::DateTime<Utc>) -> Duration {
    (Utc::now() - at).to_std().unwrap_or(Duration::ZERO)
}
