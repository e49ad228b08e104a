//! Archives the WAL files of a directory that is not watched, once.
//!
//! A second run is harmless for the same reasons as the continuous one's: the directory gets
//! a row of its own, and from there on the pipeline is the same.

use std::path::PathBuf;

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
    match backfill(setup, &payload, &stop).await {
        Ok(()) => Outcome::Done,
        Err(error) => retry(&error),
    }
}

async fn backfill(setup: &Setup, payload: &Backfill, stop: &Stop) -> anyhow::Result<()> {
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
    let path = PathBuf::from(&payload.directory);
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
            path,
        }],
        range: Range::parse(payload.from.as_deref(), payload.to.as_deref())?,
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
