//! Archives the WAL files of a directory that is not watched, once.
//!
//! A second run is harmless for the same reasons as the continuous one's: the directory gets
//! a row of its own, and from there on the pipeline is the same.

use std::path::Path;

use anyhow::Context as _;
use walferry_archive::{
    archiver::{Served, ServedDirectory},
    cycle::Stop,
    register::Range,
};
use walferry_catalog::clusters;
use walferry_jobs::Backfill;
use walferry_queue::{JobContext, Outcome};

use super::continuous_wal_archiving::retry;
use crate::setup::Setup;

pub(crate) async fn handle(setup: &Setup, payload: Backfill, ctx: JobContext) -> Outcome {
    let stop = Stop {
        cancel: ctx.cancel,
        drain: ctx.drain,
    };
    // Whatever is tried again comes to the same end: to the dead letters at once.
    let Some(path) = payload.whole_path() else {
        return Outcome::Dead {
            error: format!(
                "`{}` is not a path from the root without `..`",
                payload.directory.escape_debug()
            ),
        };
    };
    let range = match Range::parse(payload.from.as_deref(), payload.to.as_deref()) {
        Ok(range) => range,
        Err(error) => {
            return Outcome::Dead {
                error: error.to_string(),
            };
        }
    };
    match backfill(setup, &payload, path, range, &stop).await {
        Ok(()) => Outcome::Done,
        Err(error) => retry(&error),
    }
}

async fn backfill(
    setup: &Setup,
    payload: &Backfill,
    path: &Path,
    range: Range,
    stop: &Stop,
) -> anyhow::Result<()> {
    let cluster = setup
        .config
        .clusters
        .get(&payload.cluster)
        .with_context(|| {
            format!(
                "cluster `{}` is not configured on this worker",
                payload.cluster
            )
        })?;
    let mut conn = setup.archiver.catalog().get().await?;
    let row = clusters::ensure_cluster(&mut conn, &cluster.name, &cluster.prefix).await?;
    let id = clusters::ensure_directory(
        &mut conn,
        row.id,
        &format!("backfill:{}", payload.directory),
        &payload.directory,
    )
    .await?;
    drop(conn);
    let served = Served {
        id: row.id,
        name: row.name,
        directories: vec![ServedDirectory {
            id,
            name: format!("backfill:{}", payload.directory),
            path: path.to_owned(),
        }],
        range,
    };
    setup.archiver.register(&served).await?;
    // After registering: the first segment tells which system this is.
    setup.refuse_catalog_on_protected_server().await?;
    let report = setup.archiver.work_off(&served, stop).await?;
    tracing::info!(
        cluster.name = served.name,
        directory.path = payload.directory,
        archived = report.archived,
        waiting = report.waiting,
        "backfill ended"
    );
    Ok(())
}
