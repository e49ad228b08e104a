//! The report's tables, and the block of needs for `docs/scaling.md`.

use std::fmt::Write as _;
use std::time::Duration;

use walferry_bench::needs::{Demand, Measured, Needs, Requests, Segment, THREADS};
use walferry_bench::statistics::human;
use walferry_bench::usage::megabytes;
use walferry_bench::{Report, prices};

use crate::load::Outcome;
use crate::product::Costs;
use crate::{Settings, Stage};

/// Whether the backlog grew: more is left than ten seconds bring.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
pub(crate) fn broken(outcome: &Outcome) -> bool {
    outcome.left as f64 > outcome.rate * 10.0
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
    depths(
        report,
        "Queue and backlog over time",
        largest.clusters,
        &largest.real,
    );
    let goal = format!(
        "{} clusters: what they bring is done, less than 10 s of it left",
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
        report.paragraph(&ceiling(settings, pack, &all));
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
const COST: [&str; 9] = [
    "clusters",
    "segments/s",
    "catalog's cores",
    "ms per segment",
    "Redis's cores",
    "workers' cores",
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
fn cores(outcome: &Outcome) -> [f64; 3] {
    let (before, after) = (&outcome.before, &outcome.after);
    [
        after.catalog.saturating_sub(before.catalog),
        after.redis.saturating_sub(before.redis),
        after.workers.saturating_sub(before.workers),
    ]
    .map(|time| time.as_secs_f64() / outcome.wall.as_secs_f64())
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

/// What broke, by who used the cores.
fn ceiling(settings: &Settings, pack: Duration, all: &[&Outcome]) -> String {
    let Some(last) = all.last() else {
        return String::new();
    };
    let held = all
        .iter()
        .filter(|outcome| !broken(outcome))
        .map(|outcome| outcome.rate);
    let held = held.fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "some dozens")]
    let (threads, machine) = (
        (settings.workers * settings.pack_threads) as f64,
        std::thread::available_parallelism().map_or(1, usize::from) as f64,
    );
    let [catalog, redis, workers] = cores(last);
    let used = catalog + redis + workers;
    let mut text = if broken(last) {
        format!(
            "It held {held:.1} segments a second and not {:.1}. ",
            last.rate
        )
    } else {
        format!("It held {held:.1} segments a second, the most that was tried. ")
    };
    let _ = write!(
        text,
        "At the last load catalog, Redis and simulated workers used {catalog:.2}, {redis:.2} and {workers:.2} of \
         {machine:.0} cores, {used:.2} together; the simulated packing threads could have packed {:.0} a second. ",
        threads / pack.as_secs_f64()
    );
    if broken(last) && used > machine * 0.85 {
        let all = [
            (catalog, "the catalog"),
            (redis, "Redis"),
            (workers, "the workers' own work"),
        ];
        let most = all
            .iter()
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map_or("nobody", |most| most.1);
        let _ = write!(text, "The cores ran out, and {most} used most of them. ");
    } else if broken(last) {
        text.push_str(
            "Cores were left: what ran out was neither theirs nor Redis's time, but waiting. ",
        );
    }
    let [catalog, redis, _] = cores(all[0]);
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let rate = all[0].done.max(1) as f64 / all[0].wall.as_secs_f64();
    let _ = write!(
        text,
        "By processor time at the clusters' own rate, one core of the catalog is worth {:.0} segments a second and \
         Redis's one thread {:.0}.",
        rate / catalog.max(1e-6),
        rate / redis.max(1e-6)
    );
    text
}

/// What 1, 100 and 1,000 clusters need, as Markdown.
pub(crate) fn needs(settings: &Settings, measured: &Measured) -> String {
    let mut text = format!(
        "Computed by `bench/scale` on {} from what that run measured: {:.0} ms of a core and {:.2} MB in each cloud for \
         a full segment, {:.0} ms and {:.2} MB for a light one; {:.1} ms of the catalog's and {:.2} ms of Redis's \
         time for one; {:.0} bytes in the catalog; {:.0} bytes in Redis for a waiting job. A quiet cluster hands over one \
         light segment every {} s, a busy one {} full segments a minute; all are kept {} days.\n\n",
        chrono::Utc::now().format("%Y-%m-%d %H:%M UTC"),
        measured.full.cpu * 1e3,
        measured.full.stored / 1e6,
        measured.light.cpu * 1e3,
        measured.light.stored / 1e6,
        measured.catalog_cpu * 1e3,
        measured.redis_cpu * 1e3,
        measured.catalog_bytes,
        measured.job_bytes,
        settings.archive_timeout,
        settings.busy,
        settings.retention,
    );
    let quiet = (
        60.0 / f64::from(settings.archive_timeout),
        measured.light,
        "quiet",
    );
    let busy = (f64::from(settings.busy), measured.full, "busy");
    let all: Vec<(String, Needs)> = [quiet, busy]
        .into_iter()
        .flat_map(|(per_minute, segment, name)| {
            [1.0, 100.0, 1_000.0].map(|clusters| {
                let retention_days = f64::from(settings.retention);
                let demand = Demand {
                    clusters,
                    per_minute,
                    segment,
                    retention_days,
                };
                (
                    format!("{clusters:.0} {name}"),
                    Needs::of(&demand, measured),
                )
            })
        })
        .collect();
    let head = format!(
        "| clusters | segments/s | workers of {THREADS:.0} threads | cores they use | catalog's cores | Redis's cores | \
         Redis MB at most | catalog GB kept | catalog GB of a year | Mbit/s to both clouds |"
    );
    table(&mut text, &head, &all, |needs| {
        vec![
            format!("{:.2}", needs.segments_per_second),
            format!("{:.0}", needs.workers),
            format!("{:.3}", needs.packing_cores),
            format!("{:.4}", needs.catalog_cores),
            format!("{:.4}", needs.redis_cores),
            format!("{:.1}", needs.redis_bytes / 1e6),
            format!("{:.2}", needs.catalog_kept / 1e9),
            format!("{:.2}", needs.catalog_year / 1e9),
            format!("{:.2}", needs.upload_bits_per_second / 1e6),
        ]
    });
    let head = "| a month | TB in each cloud | R2: PUT+LIST, thousands | R2: HEAD+GET, thousands | B2: HEAD+GET, thousands | \
                B2: LIST, thousands | R2 $ | B2 $ | both $ |";
    table(&mut text, head, &all, |needs| {
        let (r2, b2) = needs.price();
        vec![
            format!("{:.3}", needs.r2.bytes / 1e12),
            format!("{:.0}", (needs.r2.puts + needs.r2.lists) / 1e3),
            format!("{:.0}", needs.r2.reads / 1e3),
            format!("{:.0}", needs.b2.reads / 1e3),
            format!("{:.0}", needs.b2.lists / 1e3),
            format!("{r2:.2}"),
            format!("{b2:.2}"),
            format!("{:.2}", r2 + b2),
        ]
    });
    let _ = write!(text, "{} {}", prices::WORDS, prices::SOURCE);
    text
}

fn table(
    text: &mut String,
    head: &str,
    all: &[(String, Needs)],
    columns: impl Fn(&Needs) -> Vec<String>,
) {
    let right = "---:|".repeat(head.matches('|').count() - 2);
    let _ = writeln!(text, "{head}\n|---|{right}");
    for (name, needs) in all {
        let _ = writeln!(text, "| {name} | {} |", columns(needs).join(" | "));
    }
    text.push('\n');
}
