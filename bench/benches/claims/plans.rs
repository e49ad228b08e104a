//! The plan of every hot query, as the server itself writes it while the product asks.

use std::collections::BTreeSet;

use walferry_bench::Report;
use walferry_tests::{World, eventually, wait};

use crate::asked;
use crate::fill::Site;
use crate::log::{Log, Plan};
use crate::server::sql;
use crate::worker::Worker;

const EXPLAIN: &[(&str, &str)] = &[
    ("auto_explain.log_analyze", "on"),
    ("auto_explain.log_buffers", "on"),
    ("auto_explain.log_nested_statements", "on"),
    ("auto_explain.log_min_duration", "0"),
];

/// With fewer segments reading a table from end to end may be the quickest.
const LARGE: u64 = 500_000;

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
        asked::archiving(&mut worker, &mut log).await;
        asked::healing(&mut worker, &mut log).await;
        asked::ticking(&mut idle, &mut log).await;
        asked::watching(&mut idle, &mut log).await;
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
