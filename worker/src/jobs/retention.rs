//! Applies the retention policy to every cluster that the worker knows.
//!
//! A second run is harmless: the plan is made anew from the rows, two runs exclude each
//! other, and deleting an object that is gone already is success.

use std::{sync::Arc, time::Duration};

use walferry_catalog::clusters;
use walferry_jobs::JobKind;
use walferry_observe::Metrics;
use walferry_queue::{JobContext, NewJob, Outcome, Priority, Queue};
use walferry_retain::{Consent, Policy, Retention};
use walferry_store::Repository;

use super::continuous_wal_archiving::retry;
use crate::setup::Setup;

/// Cycles may follow one another within a second; days are what retention is about.
const AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// Enqueues retention after an archiving cycle, unless this worker did so a moment ago. The
/// scheduler's cron expression enqueues it too, for the nights when nothing is archived.
pub(crate) async fn follow(setup: &Setup, queue: &Queue) {
    if !setup.retention_follows(AT_MOST_EVERY) {
        return;
    }
    let job = NewJob {
        priority: Priority::try_from(walferry_jobs::Retention::PRIORITY).unwrap_or_default(),
        unique_key: Some("follow-up:retention".to_owned()),
        ..NewJob::new(
            walferry_jobs::Retention::NAME,
            walferry_jobs::Retention::VERSION,
            walferry_jobs::Retention {}.to_args(),
        )
    };
    if let Err(error) = queue.enqueue(job).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "retention was not enqueued after the cycle; the scheduler enqueues it too"
        );
    }
}

pub(crate) async fn handle(setup: &Setup, metrics: &Metrics, ctx: JobContext) -> Outcome {
    // What was begun is finished by the next run: each deletion is a step of its own.
    match apply(setup, metrics, &ctx).await {
        Err(error) => retry(&error),
        Ok(()) if ctx.cancel.is_cancelled() => Outcome::Retry {
            error: "cancelled".to_owned(),
            after: None,
        },
        Ok(()) if ctx.drain.is_cancelled() => Outcome::GiveBack {
            delay: Duration::ZERO,
            reason: "the worker is shutting down".to_owned(),
        },
        Ok(()) => Outcome::Done,
    }
}

async fn apply(setup: &Setup, metrics: &Metrics, ctx: &JobContext) -> anyhow::Result<()> {
    let catalog = setup.archiver.catalog();
    let mut conn = catalog.get().await?;
    let rows = clusters::clusters(&mut conn).await?;
    drop(conn);
    let repositories: Vec<Arc<dyn Repository>> = setup
        .archiver
        .repositories()
        .iter()
        .map(|target| Arc::clone(&target.store) as Arc<dyn Repository>)
        .collect();
    let policy = Policy {
        window: setup.config.retention.window(),
        min_bases: setup.config.retention.min_bases,
        max_delete_share: setup.config.retention.max_delete_share.get(),
        max_clock_difference: setup.config.retention.max_clock_difference,
    };
    let retention = Retention::new(catalog.clone(), repositories, policy);
    for cluster in rows
        .iter()
        .filter(|row| setup.config.clusters.get(&row.name).is_some())
    {
        let stop = async {
            tokio::select! {
                () = ctx.cancel.cancelled() => {}
                () = ctx.drain.cancelled() => {}
            }
        };
        let report = retention.apply_until(cluster, Consent::Automatic, stop);
        let Some(report) = report.await? else {
            return Ok(());
        };
        for repository in &report.repositories {
            metrics.retention_deleted(repository.repository.as_str(), repository.deleted);
        }
    }
    Ok(())
}
