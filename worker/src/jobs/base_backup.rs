//! Takes a base backup of a cluster, after completing earlier ones that a cloud missed.
//!
//! A second run is harmless: a lease lets one run at a time take a base of a cluster, what an
//! interrupted one left is removed, and a base more than was asked for is one that retention
//! lets go.

use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use walferry_archive::copied::chain;
use walferry_backup::{Backup, BackupError, LibpqMay, Outcome as Taken};
use walferry_base::{Progress, SliceSize, TakeSettings};
use walferry_catalog::{
    bases::{self, Begun, RunOutcome},
    clusters,
    protected::Server,
};
use walferry_config::Cluster;
use walferry_jobs::BaseBackup;
use walferry_queue::{JobContext, Outcome};
use walferry_replication::ServerSettings;

use super::continuous_wal_archiving::retry;
use crate::setup::Setup;

/// Long enough for two statements.
const MOMENT: Duration = Duration::from_secs(10);

pub(crate) async fn handle(setup: &Setup, payload: BaseBackup, ctx: JobContext) -> Outcome {
    let Some(cluster) = setup.config.clusters.get(&payload.cluster) else {
        return retry(&anyhow::anyhow!(
            "cluster `{}` is not configured on this worker",
            payload.cluster
        ));
    };
    let server = match server(setup, cluster) {
        Ok(Some(server)) => server,
        // Somebody else takes the bases, or nobody does: `check` knows which. To try again
        // and again would say nothing more.
        Ok(None) => return without_server(setup, cluster).await,
        Err(error) => return retry(&error),
    };
    let backup = match backup(setup, cluster, server) {
        Ok(backup) => backup,
        Err(error) => return retry(&error),
    };
    // A drain stops it, as the next worker begins anew; what is on its way is removed.
    let stop = ctx.cancel.child_token();
    let draining = ctx.drain.clone();
    let progress = watch::Sender::new(Progress::default());
    let running = backup.run(&progress, &stop);
    tokio::pin!(running);
    let result = tokio::select! {
        result = &mut running => result,
        () = draining.cancelled() => {
            stop.cancel();
            running.await
        }
    };
    outcome(cluster, result, &ctx)
}

fn outcome(cluster: &Cluster, result: Result<Taken, BackupError>, ctx: &JobContext) -> Outcome {
    match result {
        // A drain that comes after the last PUT does not undo it.
        Ok(Taken::Taken(_)) => Outcome::Done,
        Ok(Taken::Busy { by }) => {
            tracing::info!(
                cluster.name = cluster.name,
                held_by = by,
                "a base backup of this cluster is being taken already"
            );
            Outcome::Done
        }
        Err(_) if ctx.drain.is_cancelled() && !ctx.cancel.is_cancelled() => Outcome::GiveBack {
            delay: Duration::ZERO,
            reason: "its worker shuts down; the base backup begins anew".to_owned(),
        },
        Err(error) => {
            let error = chain(&error);
            tracing::error!(
                cluster.name = cluster.name,
                error,
                "no base backup was taken; it is tried again"
            );
            Outcome::Retry { error, after: None }
        }
    }
}

fn server(setup: &Setup, cluster: &Cluster) -> anyhow::Result<Option<ServerSettings>> {
    let connections = &setup.config.connections;
    // Of several clusters nobody knows which one the variables mean.
    let libpq = connections.libpq();
    let alone = setup.config.clusters.only().is_some();
    let may = if alone && libpq.names_server() {
        LibpqMay::NameTheServer
    } else {
        LibpqMay::FillIn
    };
    let url = connections.replication(&cluster.name);
    let server = walferry_backup::server(url, libpq.variables(), may)
        .with_context(|| format!("read clusters.{}.replication", cluster.name))?;
    Ok(server.map(|server| server.with_stall(setup.config.backup.server_stall)))
}

fn backup(setup: &Setup, cluster: &Cluster, server: ServerSettings) -> anyhow::Result<Backup> {
    let settings = &setup.config.backup;
    let targets = setup.archiver.repositories();
    Ok(Backup {
        cluster: cluster.name.clone(),
        prefix: cluster.prefix.clone(),
        server,
        clock: setup
            .config
            .connections
            .replication(&cluster.name)
            .and_then(|url| Server::new(url, &setup.worker).ok()),
        repositories: targets
            .iter()
            .map(|target| std::sync::Arc::clone(&target.store) as _)
            .collect(),
        required: setup.config.repositories.required(),
        catalog: Some(setup.archiver.catalog().clone()),
        by: setup.worker.clone(),
        take: TakeSettings {
            slice_size: SliceSize::try_from(settings.slice_size)
                .context("read backup.slice_size")?,
            level: settings.level,
            stall: settings.stall,
            ..TakeSettings::new(setup.pool.clone())
        },
        max_rate: settings.max_rate,
        fast_checkpoint: settings.fast_checkpoint,
    })
}

/// Writes down that there is no server to take a base from, in the cluster's one row.
async fn without_server(setup: &Setup, cluster: &Cluster) -> Outcome {
    let written = tokio::time::timeout(MOMENT, async {
        let mut conn = setup.archiver.catalog().get().await?;
        let row = clusters::ensure_cluster(&mut conn, &cluster.name, &cluster.prefix).await?;
        if let Begun::Run(run) = bases::begin(&mut conn, row.id, &setup.worker, MOMENT).await? {
            let said = Some((RunOutcome::NoServer, None));
            bases::end(&mut conn, row.id, run, said).await?;
        }
        Ok::<_, walferry_catalog::CatalogError>(())
    });
    if let Ok(Err(error)) = written.await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "that no server is configured was not written down"
        );
    }
    tracing::info!(
        cluster.name = cluster.name,
        "no base backup: no server is configured. HINT: set clusters.{}.replication, or scheduler.cron.base-backup to off",
        cluster.name
    );
    Outcome::Done
}
