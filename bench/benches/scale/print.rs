//! The report's tables.

use std::time::Duration;

use walferry_bench::Report;
use walferry_bench::needs::{Requests, Segment};
use walferry_bench::statistics::human;
use walferry_bench::usage::megabytes;

use crate::Stage;
use crate::ceiling;
use crate::load::Outcome;
use crate::product::Costs;
use crate::settings::Settings;

/// Whether the backlog grew: more is left than two seconds bring.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
pub(crate) fn broken(outcome: &Outcome) -> bool {
    outcome.left as f64 > (outcome.rate * 2.0).max(2.0)
}

/// Everything that was measured.
pub(crate) fn report(
    report: &mut Report,
    settings: &Settings,
    costs: &Costs,
    pack: Duration,
    stages: &[Stage],
) {
    report.paragraph(&format!(
        "{} simulated workers ({} slots, {} packing threads, {} segments in flight, {} connections each), \
         every one serving every cluster, as tasks of one process. They take real jobs from the real queue and \
         make the calls to the real catalog that a worker makes for a segment, in its order; scanning \
         a directory is a look into memory, packing a sleep of {}, both copies a sleep of {} (a guess at a cloud). \
         Left out: the reports of the clouds' health, retention, metrics. Each cluster hands over a \
         segment every {} s; the watch of each worker enqueues for each, the scheduler every {} s. Lag \
         counts from the moment when the segment was to be handed over. After each load every segment was counted: \
         VERIFIED once by the workers and by the catalog, two verified copies, none lost, none twice.",
        settings.workers,
        settings.slots,
        settings.pack_threads,
        settings.in_flight,
        settings.connections,
        human(pack),
        human(Duration::from_millis(settings.upload_ms)),
        settings.archive_timeout,
        settings.tick,
    ));
    if let Some(stage) = stages.last() {
        report.paragraph(&stage.servers);
    }
    report.paragraph("### A real worker");
    report.paragraph(&costs.words);
    report.table(
        &["segment", "CPU ms of the worker", "bytes in each cloud"],
        &[segment("full", &costs.full), segment("light", &costs.light)],
    );
    report.table(
        &["requests for a segment", "PUT", "HEAD and GET", "LIST"],
        &[requests("r2", &costs.r2), requests("b2", &costs.b2)],
    );
    report.paragraph("### At the clusters' own rate");
    let rows: Vec<_> = stages
        .iter()
        .map(|stage| level(stage.clusters, &stage.real))
        .collect();
    report.table(&LEVEL, &rows);
    let rows: Vec<_> = stages
        .iter()
        .map(|stage| cost(stage.clusters, &stage.real))
        .collect();
    report.table(&COST, &rows);
    report.paragraph(
        "The scheduler's job while nothing waits: one job looks into every cluster in turn.",
    );
    let rows: Vec<_> = stages.iter().map(tick).collect();
    report.table(&["clusters", "took", "catalog's CPU ms", "commits"], &rows);
    let Some(largest) = stages.last() else { return };
    report.paragraph(&format!(
        "Catalog: {:.0} bytes for a segment, rows and indexes, after a VACUUM. Redis: {:.0} bytes for a waiting job.",
        largest.catalog_bytes, largest.job_bytes
    ));
    report.paragraph("What took most of the catalog's time at that rate, for a segment (waiting for the disk included):");
    report.table(
        &["statement", "calls", "ms to plan", "ms to run"],
        &largest.statements,
    );
    depths(
        report,
        "Queue and backlog over time",
        largest.clusters,
        &largest.real,
    );
    let goal = format!(
        "{} clusters: what they bring is done, less than 2 s of it left",
        largest.clusters
    );
    let left = format!("{} of {} left", largest.real.left, largest.real.handed);
    report.goal(&goal, &left, !broken(&largest.real));
    if !largest.raised.is_empty() {
        report.paragraph("### Until it breaks");
        let all: Vec<&Outcome> = std::iter::once(&largest.real)
            .chain(&largest.raised)
            .collect();
        let rows: Vec<_> = all
            .iter()
            .map(|outcome| level(largest.clusters, outcome))
            .collect();
        report.table(&LEVEL, &rows);
        let rows: Vec<_> = all
            .iter()
            .map(|outcome| cost(largest.clusters, outcome))
            .collect();
        report.table(&COST, &rows);
        report.paragraph(&ceiling::words(settings, pack, &all));
    }
}

const LEVEL: [&str; 10] = [
    "clusters",
    "segments/s",
    "handed over",
    "done/s",
    "lag p50",
    "lag p99",
    "left at the end",
    "drained in",
    "jobs",
    "calls that failed",
];
const COST: [&str; 10] = [
    "clusters",
    "segments/s",
    "catalog's cores",
    "ms per segment",
    "Redis's cores",
    "workers' cores",
    "cores idle",
    "commits/s",
    "WAL KB per segment",
    "connections",
];

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn level(clusters: usize, outcome: &Outcome) -> Vec<String> {
    let done = outcome.done as f64 / outcome.wall.as_secs_f64();
    vec![
        clusters.to_string(),
        format!("{:.2}", outcome.rate),
        outcome.handed.to_string(),
        format!("{done:.2}"),
        human(outcome.lags.percentile(50.0)),
        human(outcome.lags.percentile(99.0)),
        outcome.left.to_string(),
        human(outcome.drain),
        outcome.jobs.to_string(),
        outcome.failed.to_string(),
    ]
}

/// Cores that the catalog, Redis and the workers used.
pub(crate) fn cores(outcome: &Outcome) -> [f64; 3] {
    let (before, after) = (&outcome.before, &outcome.after);
    [
        after.catalog.saturating_sub(before.catalog),
        after.redis.saturating_sub(before.redis),
        after.workers.saturating_sub(before.workers),
    ]
    .map(|time| time.as_secs_f64() / outcome.wall.as_secs_f64())
}

/// Cores that had nothing to do.
pub(crate) fn idle(outcome: &Outcome) -> f64 {
    let idle = outcome.after.idle.saturating_sub(outcome.before.idle);
    idle.as_secs_f64() / outcome.wall.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn cost(clusters: usize, outcome: &Outcome) -> Vec<String> {
    let [catalog, redis, workers] = cores(outcome);
    let (seconds, done) = (outcome.wall.as_secs_f64(), outcome.done.max(1) as f64);
    let (before, after) = (&outcome.before, &outcome.after);
    vec![
        clusters.to_string(),
        format!("{:.2}", outcome.rate),
        format!("{catalog:.3}"),
        format!("{:.1}", catalog * seconds * 1e3 / done),
        format!("{redis:.3}"),
        format!("{workers:.3}"),
        format!("{:.2}", idle(outcome)),
        format!("{:.0}", (after.commits - before.commits) as f64 / seconds),
        format!("{:.1}", (after.wal - before.wal) as f64 / 1e3 / done),
        after.connections.to_string(),
    ]
}

fn tick(stage: &Stage) -> Vec<String> {
    let tick = &stage.tick;
    vec![
        stage.clusters.to_string(),
        human(tick.took),
        format!("{:.0}", tick.catalog.as_secs_f64() * 1e3),
        tick.commits.to_string(),
    ]
}

fn segment(name: &str, segment: &Segment) -> Vec<String> {
    vec![
        name.into(),
        format!("{:.0}", segment.cpu * 1e3),
        format!("{:.0}", segment.stored),
    ]
}

fn requests(name: &str, requests: &Requests) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    row.extend([requests.puts, requests.reads, requests.lists].map(|each| format!("{each:.2}")));
    row
}

/// A dozen moments of one load.
fn depths(report: &mut Report, title: &str, clusters: usize, outcome: &Outcome) {
    report.paragraph(&format!("{title}, {clusters} clusters:"));
    let step = (outcome.depth.len() / 12).max(1);
    let rows: Vec<_> = outcome
        .depth
        .iter()
        .step_by(step)
        .map(|depth| {
            vec![
                format!("{:.0} s", depth.at.as_secs_f64()),
                depth.ready.to_string(),
                depth.leased.to_string(),
                depth.outstanding.to_string(),
            ]
        })
        .collect();
    report.table(
        &[
            "after",
            "jobs waiting",
            "jobs running",
            "segments not VERIFIED",
        ],
        &rows,
    );
    let redis = (outcome.before.redis_bytes, outcome.after.redis_bytes);
    report.paragraph(&format!(
        "Redis's memory: {} before, {} after.",
        megabytes(redis.0),
        megabytes(redis.1)
    ));
}
