//! The plan of every hot query, as the server itself writes it while the product asks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use walferry_bench::Report;
use walferry_catalog::{
    Completed, CopyFailure, Enough, ReleaseAs, ScanReport, claims, clusters, completion, intake,
    status, suspects,
};
use walferry_tests::{World, eventually, wait};

use crate::calls::{Worker, new_file, packed, proof};
use crate::fill::{Site, clouds};
use crate::server::sql;

const EXPLAIN: &[(&str, &str)] = &[
    ("auto_explain.log_analyze", "on"),
    ("auto_explain.log_buffers", "on"),
    ("auto_explain.log_nested_statements", "on"),
    ("auto_explain.log_min_duration", "0"),
];
/// Tables that grow with the archive or with the backlog.
const BIG: [&str; 3] = ["wal_files", "copies", "local_files"];
/// With fewer segments reading a table from end to end may be the quickest.
const LARGE: u64 = 500_000;

/// One statement that a call ran.
#[derive(Debug)]
struct Plan {
    call: &'static str,
    query: String,
    milliseconds: f64,
    lines: Vec<String>,
}

/// What the hot calls ran on one catalog.
#[derive(Debug)]
pub(crate) struct Reading {
    size: u64,
    planner: Planner,
    plans: Vec<Plan>,
}

/// What the planner knows.
#[derive(Debug, Clone, Copy)]
enum Planner {
    /// No backlog: its statistics are older.
    Before,
    /// The backlog.
    Since,
    /// The backlog, but not what is asked for: one plan serves every call of a connection.
    Generic,
}

impl Reading {
    fn what(&self) -> String {
        let when = match self.planner {
            Planner::Before => "looked before",
            Planner::Since => "looked since",
            Planner::Generic => "generic plans",
        };
        format!("{} segments, {when}", self.size)
    }

    fn of(&self, call: &str) -> impl Iterator<Item = &Plan> {
        self.plans
            .iter()
            .filter(move |plan| plan.call == call && !plan.is_trigger())
    }
}

/// Reads with each planner: PostgreSQL may choose any of the three.
pub(crate) fn read_all(world: &World, sites: &[Site], size: u64) -> Vec<Reading> {
    [Planner::Before, Planner::Since, Planner::Generic]
        .map(|planner| {
            let mode = match planner {
                Planner::Before => "auto",
                Planner::Since => {
                    sql(world, "ANALYZE wal_files, copies, local_files");
                    "auto"
                }
                Planner::Generic => "force_generic_plan",
            };
            explain(world, &[("plan_cache_mode", mode)]);
            let plans = read(world, sites);
            explain(world, &[("plan_cache_mode", "auto")]);
            Reading {
                size,
                planner,
                plans,
            }
        })
        .into()
}

/// What the hot calls ran, in their order; there is a backlog.
fn read(world: &World, sites: &[Site]) -> Vec<Plan> {
    explain(world, EXPLAIN);
    let mut log = Log::new(world);
    let (busy, quiet) = (&sites[0], sites.last().unwrap_or(&sites[0]));
    world.runtime().block_on(async {
        let mut worker = Worker::new(world, busy, 90);
        let mut idle = Worker::new(world, quiet, 91);
        archiving(&mut worker, &mut log).await;
        healing(&mut worker, &mut log).await;
        ticking(&mut idle, &mut log).await;
        watching(&mut idle, &mut log).await;
    });
    explain(world, &[("auto_explain.log_min_duration", "-1")]);
    log.plans
}

fn explain(world: &World, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        let catalog = world.catalog();
        catalog.execute(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        catalog.execute("SELECT pg_reload_conf()");
        eventually("the setting holds", || {
            let now = catalog.value(&format!("SELECT current_setting('{name}')"));
            wait::is(now == *value, now)
        });
    }
}

async fn archiving(worker: &mut Worker, log: &mut Log) {
    let (site, up) = (worker.site.clone(), clouds());
    let mut conn = worker.connect().await;
    log.begin();
    let files = [new_file()];
    intake::register(&mut conn, site.prefix, site.directory, &files, &up)
        .await
        .expect("a file is registered");
    log.end("register");
    drop(conn);
    let claimed = worker.claim(4).await;
    log.end("claim");
    assert_eq!(claimed.len(), 4, "there is a backlog");
    let (first, rest) = claimed.split_at(1);
    worker.archive(&first[0]).await;
    log.end("choose_encoder, set_packed, still_held, complete, local_deleted");
    let mut conn = worker.connect().await;
    let tokens: Vec<_> = rest.iter().map(|claim| claim.token).collect();
    let held = claims::renew(&mut conn, &tokens, Duration::from_secs(60)).await;
    assert_eq!(held.expect("leases are renewed").len(), 3, "all are held");
    log.end("renew");
    claims::release(&mut conn, tokens[0], ReleaseAs::Drained)
        .await
        .expect("a claim is given back");
    log.end("release");
    completion::set_packed(&mut conn, tokens[1], &packed(&rest[1]))
        .await
        .expect("the content is recorded");
    let failure = CopyFailure {
        repository: up[1].clone(),
        error: "503".into(),
        cause: "server-error".into(),
        retry_after: Duration::from_secs(30),
    };
    let proofs = vec![proof(&site, &rest[1], &up[0])];
    log.begin();
    let waiting = completion::complete(
        &mut conn,
        tokens[1],
        proofs,
        vec![failure],
        Enough::AllRequired,
    )
    .await;
    assert!(
        matches!(waiting, Ok(Completed::Waiting(_))),
        "one copy is missing"
    );
    log.end("complete, one cloud failed");
    claims::release(&mut conn, tokens[2], ReleaseAs::Drained)
        .await
        .expect("a claim is given back");
}

/// A cloud came back: its copies are due, and are claimed beside new files.
async fn healing(worker: &mut Worker, log: &mut Log) {
    let cloud = clouds().remove(1);
    let mut conn = worker.connect().await;
    log.begin();
    claims::make_one_due_now(&mut conn, &cloud)
        .await
        .expect("a copy is made due");
    log.end("make_one_due_now");
    claims::make_due_now(&mut conn, &cloud)
        .await
        .expect("copies are made due");
    log.end("make_due_now");
    drop(conn);
    let claimed = worker.claim(4).await;
    log.end("claim, a copy is missing");
    assert!(
        claimed.iter().any(|claim| claim.sha256.is_some()),
        "the missing copy is claimed"
    );
    for claim in claimed {
        worker.archive(&claim).await;
    }
}

/// What a job with nothing to do asks, as `worker` and `shared/archive` do.
async fn ticking(worker: &mut Worker, log: &mut Log) {
    let site = worker.site.clone();
    log.begin();
    assert!(worker.claim(16).await.is_empty(), "nothing waits there");
    log.end("claim, nothing to do");
    let mut conn = worker.connect().await;
    log.begin();
    intake::missing(&mut conn, site.directory, &[])
        .await
        .expect("the catalog answers");
    log.end("unknown, missing");
    suspects::keep_only(&mut conn, site.directory, &[])
        .await
        .expect("the catalog answers");
    log.end("keep_only");
    let scan = ScanReport {
        scanned_by: "bench".into(),
        files: 0,
        bytes: 0,
        fs_total: 1 << 40,
        fs_available: 1 << 39,
        newest_arrival: None,
    };
    intake::touch_scan(&mut conn, site.directory, &scan)
        .await
        .expect("the catalog answers");
    log.end("touch_scan");
    clusters::clusters(&mut conn)
        .await
        .expect("the catalog answers");
    log.end("clusters");
    claims::backlog(&mut conn, Some(site.cluster))
        .await
        .expect("the catalog answers");
    log.end("backlog");
    let up = clouds();
    let request = claims::ClaimRequest {
        worker: &worker.name,
        lease: Duration::from_secs(60),
        limit: 0,
        cluster: Some(site.cluster),
        directories: &[site.directory],
        repositories_up: &up,
        enough: Enough::AllRequired,
        longest_delay: Duration::from_secs(300),
    };
    let wakeup = claims::next_wakeup(&mut conn, &request)
        .await
        .expect("the catalog answers");
    log.end("next_wakeup");
    assert_eq!(wakeup, None, "nothing waits there");
}

/// What every worker reads every 10 s for its metrics.
async fn watching(worker: &mut Worker, log: &mut Log) {
    let site = worker.site.clone();
    let mut conn = worker.connect().await;
    log.begin();
    status::repositories(&mut conn, Some(site.cluster))
        .await
        .expect("the catalog answers");
    log.end("repositories");
    suspects::count(&mut conn, site.cluster)
        .await
        .expect("the catalog answers");
    log.end("suspects");
    clusters::directories(&mut conn, Some(site.cluster))
        .await
        .expect("the catalog answers");
    log.end("directories");
}

/// The server's log from the last look on. A statement is in it before its answer is sent.
struct Log {
    file: PathBuf,
    seen: usize,
    plans: Vec<Plan>,
}

impl Log {
    fn new(world: &World) -> Log {
        let file = world.folder().join("logs/catalog.err");
        Log {
            file,
            seen: 0,
            plans: Vec::new(),
        }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file)
            .unwrap_or_else(|error| panic!("read {}: {error}", self.file.display()))
    }

    /// What was logged up to now belongs to no call.
    fn begin(&mut self) {
        self.seen = self.text().len();
    }

    /// What was logged since belongs to `call`.
    fn end(&mut self, call: &'static str) {
        let text = self.text();
        let fresh = text[self.seen..].to_owned();
        self.seen = text.len();
        let mut lines = fresh.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((_, took)) = line.split_once("duration: ") else {
                continue;
            };
            let Some((milliseconds, _)) = took.split_once(" ms  plan:") else {
                continue;
            };
            let mut entry = Vec::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
                entry.push(line.trim_start_matches('\t').to_owned());
            }
            let query = entry
                .remove(0)
                .trim_start_matches("Query Text: ")
                .to_owned();
            let milliseconds = milliseconds.parse().expect("a number of milliseconds");
            self.plans.push(Plan {
                call,
                query,
                milliseconds,
                lines: entry,
            });
        }
        assert!(
            self.plans.iter().any(|plan| plan.call == call),
            "no plan of `{call}` is in the log"
        );
    }
}

impl Plan {
    /// Foreign keys' own queries.
    fn is_trigger(&self) -> bool {
        self.query.contains("FROM ONLY")
    }

    fn scans(&self) -> impl Iterator<Item = &String> {
        let big = |line: &&String| {
            BIG.iter()
                .any(|table| line.contains(&format!("Seq Scan on {table} ")))
        };
        self.lines.iter().filter(big)
    }

    /// Nodes with their conditions and actual rows, without estimates; the buffers of the whole.
    fn short(&self) -> String {
        let query: String = self.query.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut text: String = query.chars().take(150).collect();
        if text.len() < query.len() {
            text.push('…');
        }
        let mut buffers = false;
        for line in &self.lines {
            let word = line.trim_start();
            if word.starts_with("Buffers:") {
                if std::mem::replace(&mut buffers, true) {
                    continue;
                }
            } else if ["I/O Timings", "Rows Removed", "Sort Method", "Heap Fetches"]
                .iter()
                .any(|start| word.starts_with(start))
            {
                continue;
            }
            let line = match (line.find("  (cost="), line.find("(actual")) {
                (Some(cost), Some(actual)) => format!("{}  {}", &line[..cost], &line[actual..]),
                _ => line.clone(),
            };
            let cut: String = line.chars().take(170).collect();
            text.push_str(&format!(
                "\n{cut}{}",
                if cut.len() < line.len() { "…" } else { "" }
            ));
        }
        text
    }
}

pub(crate) fn tell(read: &[Reading], report: &mut Report) {
    let Some(last) = read
        .iter()
        .rfind(|one| matches!(one.planner, Planner::Since))
    else {
        return;
    };
    report.paragraph(
        "### The hot queries\n\nWhat the server ran for each call, from its own log (`auto_explain`, which makes it slower): \
         statements, and the milliseconds of them all. A planner that last looked before the backlog came believes that \
         there is none; one that looked since knows of it; a generic plan serves every call of a connection. Each has to do.",
    );
    let mut calls: Vec<&'static str> = last.plans.iter().map(|plan| plan.call).collect();
    calls.dedup();
    let mut head = vec!["call".to_owned()];
    head.extend(read.iter().map(Reading::what));
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = calls
        .iter()
        .map(|call| {
            let mut row = vec![format!("`{call}`")];
            row.extend(read.iter().map(|one| {
                let of: Vec<&Plan> = one.of(call).collect();
                let sum: f64 = of.iter().map(|plan| plan.milliseconds).sum();
                format!("{}, {sum:.2}", of.len())
            }));
            row
        })
        .collect();
    report.table(&head, &rows);
    report.paragraph(&format!(
        "Their plans ({}), without the estimates:",
        last.what()
    ));
    let mut shown = BTreeSet::new();
    for plan in &last.plans {
        if !plan.is_trigger() && shown.insert(&plan.query) {
            report.verbatim(&format!("-- {}\n{}", plan.call, plan.short()));
        }
    }
    let mut scans = 0;
    for one in read.iter().filter(|one| one.size >= LARGE) {
        for plan in &one.plans {
            for line in plan.scans() {
                scans += 1;
                report.paragraph(&format!("{}, `{}`: {}", one.what(), plan.call, line.trim()));
            }
        }
    }
    let all: usize = read.iter().map(|one| one.plans.len()).sum();
    report.goal(
        "no hot query reads a table from end to end that grows with the archive",
        &format!("{scans} of {all} statements do"),
        scans == 0,
    );
}
