//! What a `continuous-wal-archiving` job with nothing to do costs the catalog.

use std::collections::BTreeMap;
use std::time::Duration;

use walferry_bench::Report;
use walferry_bench::statistics::{Times, human};
use walferry_tests::{World, eventually_within, wait};

/// The worker's own report on each cloud, every 10 s whether there are ticks or not.
const NOT_THE_TICKS: &str = "UPDATE repositories SET%";
const TICK: &str = "continuous-wal-archiving";
/// Retention reads the cluster's every row.
const PATIENCE: Duration = Duration::from_secs(600);

/// What so many ticks cost.
#[derive(Debug)]
pub(crate) struct Ticks {
    size: u64,
    number: u32,
    times: Times,
    statements: i64,
    milliseconds: f64,
    wal: i64,
    /// Tables that grew, by so many bytes.
    grown: BTreeMap<String, i64>,
    /// Statements of the ticks that wrote: text, calls, rows, bytes of WAL.
    writes: Vec<[String; 4]>,
    /// Retention runs that followed the first ticks, and how long one takes that finds nothing to do.
    followed: i64,
    retention: Duration,
}

pub(crate) fn measure(world: &World, size: u64, number: u32) -> Ticks {
    let runs = || world.number("SELECT coalesce(max(id), 0) FROM retention_runs");
    let runs_before = runs();
    let worker = world.worker();
    worker.await_ready();
    quiet(world);
    // The worker's first two, one at its start, may note that it is there, and what follows from it takes its time.
    job(world, TICK);
    empty(world);
    quiet(world);
    let followed = runs() - runs_before;
    reset(world);
    let (before, lsn) = (tables(world), position(world));
    let times = (0..number).map(|_| job(world, TICK)).collect();
    empty(world);
    let wal = position(world) - lsn;
    let statements = format!(
        "FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
          WHERE d.datname = 'walferry' AND s.query NOT LIKE '%pg_stat_%' AND s.query NOT LIKE '{NOT_THE_TICKS}'"
    );
    let milliseconds = world.rows(&format!(
        "SELECT coalesce(sum(total_exec_time), 0) {statements}"
    ));
    let after = tables(world);
    let ticks = Ticks {
        size,
        number,
        times,
        statements: world.number(&format!(
            "SELECT coalesce(sum(calls), 0)::bigint {statements}"
        )),
        milliseconds: milliseconds[0][0]
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        wal,
        grown: after
            .into_iter()
            .map(|(table, bytes)| {
                (
                    table.clone(),
                    bytes - before.get(&table).copied().unwrap_or(0),
                )
            })
            .filter(|(_, bytes)| *bytes != 0)
            .collect(),
        writes: writes(world),
        followed,
        retention: Duration::ZERO,
    };
    let ticks = Ticks {
        retention: job(world, "retention"),
        ..ticks
    };
    worker.terminate();
    assert!(worker.wait().success(), "the worker ends well");
    ticks
}

/// Enqueues a job as an operator would and waits for its end; how long the worker had it.
fn job(world: &World, name: &str) -> Duration {
    let job = world.cli(&["--json", "enqueue", name]).json();
    let id = job["id"].as_str().expect("the job has an id").to_owned();
    let task = format!("{{backups}}:task:{id}");
    let fields = |names: &[&str]| {
        let words = [&["HMGET", &task], names].concat();
        world.redis().strings(&words)
    };
    eventually_within(PATIENCE, "the job is done", || {
        let state = fields(&["state"]);
        wait::is(state == ["done"], format!("{state:?}"))
    });
    let fields = fields(&["leased_ms", "ended_ms"]);
    let time = |at: usize| fields[at].parse::<u64>().expect("a time in milliseconds");
    Duration::from_millis(time(1) - time(0))
}

/// Waits until no job is under way or waits.
fn empty(world: &World) {
    eventually_within(PATIENCE, "the queue is empty", || {
        let left: i64 = ["ready", "leased", "delayed"]
            .map(|set| {
                world
                    .redis()
                    .integer(&["ZCARD", &format!("{{backups}}:{set}")])
            })
            .iter()
            .sum();
        wait::is(left == 0, left.to_string())
    });
}

/// Waits until the worker asks nothing of the catalog: its metrics read every row once a minute.
fn quiet(world: &World) {
    std::thread::sleep(Duration::from_secs(2));
    eventually_within(PATIENCE, "the catalog is quiet", || {
        let active = world.number(
            "SELECT count(*) FROM pg_stat_activity \
              WHERE application_name LIKE 'walferry%' AND state <> 'idle'",
        );
        wait::is(active == 0, active.to_string())
    });
}

fn reset(world: &World) {
    world.rows("SELECT pg_stat_statements_reset()");
}

fn position(world: &World) -> i64 {
    world.number("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
}

fn tables(world: &World) -> BTreeMap<String, i64> {
    let rows = world.rows("SELECT relname, pg_total_relation_size(relid) FROM pg_stat_user_tables");
    rows.into_iter()
        .filter_map(|row| Some((row[0].clone()?, row[1].as_ref()?.parse().ok()?)))
        .collect()
}

/// Statements that wrote since the reset.
fn writes(world: &World) -> Vec<[String; 4]> {
    let rows = world.rows(&format!(
        "SELECT left(regexp_replace(s.query, '\\s+', ' ', 'g'), 60), s.calls, s.rows, s.wal_bytes \
           FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid \
          WHERE d.datname = 'walferry' AND s.wal_bytes > 0 AND s.query NOT LIKE '%pg_stat_%' AND s.query NOT LIKE '{NOT_THE_TICKS}' \
          ORDER BY s.wal_bytes DESC"
    ));
    rows.into_iter()
        .map(|row| [0, 1, 2, 3].map(|at| row[at].clone().unwrap_or_default()))
        .collect()
}

pub(crate) fn tell(ticks: &[Ticks], report: &mut Report) {
    report.paragraph(
        "### An idle tick\n\nA real worker, a job enqueued by `walferry enqueue continuous-wal-archiving`, an empty directory. \
         Time from the job's claim to its end. What every worker does every 10 s, ticks or not, is left out: \
         its report on each cloud. A retention job follows a tick at most once a minute and worker, and so one in 300 s; \
         it is no part of these figures and stands apart in the last column. It reads every row of its cluster and \
         notes its run, of which the newest thousand are kept.",
    );
    let rows: Vec<Vec<String>> = ticks
        .iter()
        .map(|one| {
            let number = f64::from(one.number);
            vec![
                one.size.to_string(),
                one.number.to_string(),
                human(one.times.percentile(50.0)),
                human(one.times.percentile(99.0)),
                format!("{:.1}", one.statements as f64 / number),
                format!("{:.2} ms", one.milliseconds / number),
                format!("{:.0}", one.wal as f64 / number),
                one.grown
                    .iter()
                    .map(|(table, bytes)| format!("{table} {bytes}"))
                    .collect::<Vec<_>>()
                    .join(", "),
                one.followed.to_string(),
                human(one.retention),
            ]
        })
        .collect();
    report.table(
        &[
            "segments",
            "ticks",
            "p50",
            "p99",
            "statements a tick",
            "time in the server",
            "WAL bytes a tick",
            "tables that grew (bytes)",
            "retention runs that followed",
            "a retention job",
        ],
        &rows,
    );
    let rows: Vec<Vec<String>> = ticks
        .iter()
        .flat_map(|one| one.writes.iter().map(|write| (one.size, write)))
        .map(|(size, [query, calls, rows, wal])| {
            let query = format!("`{query}…`");
            vec![
                query,
                size.to_string(),
                calls.clone(),
                rows.clone(),
                wal.clone(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        report.paragraph("Statements of the ticks that wrote:");
        let head = ["statement", "segments", "calls", "rows", "WAL bytes"];
        report.table(&head, &rows);
    }
    let (Some(small), Some(large)) = (ticks.first(), ticks.last()) else {
        return;
    };
    let wrote: usize = ticks.iter().map(|one| one.writes.len()).sum();
    report.goal(
        "an idle tick writes nothing into the catalog",
        &format!("{wrote} statements wrote"),
        wrote == 0,
    );
    let followed: i64 = ticks.iter().map(|one| one.followed).sum();
    report.goal(
        "an idle tick starts no job that reads the archive or writes",
        &format!("{followed} retention runs followed"),
        followed == 0,
    );
    let grown: i64 = ticks.iter().flat_map(|one| one.grown.values()).sum();
    report.goal(
        "no table grows by it",
        &format!("{grown} bytes"),
        grown == 0,
    );
    let (a, b) = (small.times.percentile(50.0), large.times.percentile(50.0));
    report.goal(
        "its time is flat in the archive's size: at most twice the smallest's, or 2 ms more",
        &format!(
            "{} with {}, {} with {}",
            human(a),
            small.size,
            human(b),
            large.size
        ),
        b <= (a * 2).max(a + Duration::from_millis(2)),
    );
}
