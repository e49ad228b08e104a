//! So many workers at once: files and segments per second, and each call's time.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use walferry_bench::Report;
use walferry_bench::statistics::{Times, human};
use walferry_tests::World;

use crate::fill::Site;
use crate::server::sql;
use crate::worker::Worker;

/// Files registered by one call when a burst has arrived.
const BURST: u64 = 500;

/// What one measurement found.
#[derive(Debug)]
pub(crate) struct Measured {
    size: u64,
    workers: usize,
    /// Files or segments per second.
    rates: BTreeMap<&'static str, f64>,
    calls: BTreeMap<&'static str, Times>,
}

/// So many workers at once in one cluster, the hardest case.
pub(crate) fn measure(
    world: &World,
    site: &Site,
    size: u64,
    workers: usize,
    time: Duration,
    backlog: u64,
) -> Measured {
    let mut measured = Measured {
        size,
        workers,
        rates: BTreeMap::new(),
        calls: BTreeMap::new(),
    };
    let mut run = |what, kind| {
        let began = Instant::now();
        let ended = run(world, site, workers, kind);
        let took = began.elapsed().as_secs_f64();
        let files: u64 = ended.iter().map(|(_, files)| files).sum();
        measured.rates.insert(what, files as f64 / took);
        for (worker, _) in ended {
            for (call, times) in worker.calls {
                measured.calls.entry(call).or_default().append(times);
            }
        }
    };
    run(
        "registered, one a call",
        Kind::Register {
            burst: 1,
            time,
            least: 0,
        },
    );
    let least = backlog;
    run(
        "registered, 500 a call",
        Kind::Register {
            burst: BURST,
            time: Duration::ZERO,
            least,
        },
    );
    run("archived", Kind::Work(time));
    measured
}

/// Archives `segments` with one worker, from registering to the end.
pub(crate) fn archive(world: &World, site: &Site, segments: u64) {
    run(
        world,
        site,
        1,
        Kind::Register {
            burst: 1,
            time: Duration::ZERO,
            least: segments,
        },
    );
    run(world, site, 1, Kind::Work(Duration::MAX));
}

/// Forgets what is left, so that the next measurement begins without a backlog. How much it was.
pub(crate) fn forget_backlog(world: &World) -> i64 {
    let left = world.number("SELECT count(*) FROM wal_files WHERE due_at IS NOT NULL");
    sql(world, "DELETE FROM wal_files WHERE due_at IS NOT NULL");
    for table in ["wal_files", "copies", "local_files"] {
        sql(world, &format!("VACUUM (ANALYZE) {table}"));
    }
    left
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// For so long, and at least so many files.
    Register {
        burst: u64,
        time: Duration,
        least: u64,
    },
    /// For so long, or until nothing is left.
    Work(Duration),
}

fn run(world: &World, site: &Site, workers: usize, kind: Kind) -> Vec<(Worker, u64)> {
    let handle = world.runtime().handle();
    let running: Vec<_> = (0..workers)
        .map(|number| {
            let mut worker = Worker::new(world, site, number);
            handle.spawn(async move {
                let files = match kind {
                    Kind::Register { burst, time, least } => {
                        worker.register(burst, time, least / workers as u64).await
                    }
                    Kind::Work(time) => worker.work(time).await,
                };
                (worker, files)
            })
        })
        .collect();
    let ended: Vec<(Worker, u64)> = running
        .into_iter()
        .map(|worker| handle.block_on(worker).expect("the worker ends"))
        .collect();
    let mut done = HashSet::new();
    for file in ended.iter().flat_map(|(worker, _)| &worker.done) {
        assert!(done.insert(file), "two workers archived file {file}");
    }
    ended
}

pub(crate) fn tell(measured: &[Measured], report: &mut Report) {
    report.paragraph(
        "### Registering and claiming\n\nPer second, by all workers together, in one cluster. A worker is one \
         connection and one call at a time. *Archived* is a segment's whole way: claim (16 at once), `set_packed`, `still_held` three times, `complete`, `local_deleted`; the clouds and the disk of the files take no time.",
    );
    let mut head = vec![
        "per second".to_owned(),
        "segments in the catalog".to_owned(),
    ];
    let mut workers: Vec<usize> = measured.iter().map(|one| one.workers).collect();
    workers.sort_unstable();
    workers.dedup();
    head.extend(workers.iter().map(|workers| format!("{workers} at work")));
    let sizes: Vec<u64> = {
        let mut sizes: Vec<u64> = measured.iter().map(|one| one.size).collect();
        sizes.dedup();
        sizes
    };
    let mut rows = Vec::new();
    for what in [
        "registered, one a call",
        "registered, 500 a call",
        "archived",
    ] {
        for size in &sizes {
            let mut row = vec![what.to_owned(), size.to_string()];
            for count in &workers {
                let one = measured
                    .iter()
                    .find(|one| one.size == *size && one.workers == *count);
                row.push(one.map_or_else(String::new, |one| format!("{:.0}", one.rates[what])));
            }
            rows.push(row);
        }
    }
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    report.table(&head, &rows);

    report.paragraph("Each call by itself, its connection from the pool included, p50 and p99:");
    let columns: Vec<&Measured> = measured
        .iter()
        .filter(|one| one.workers == workers[0] || Some(&one.workers) == workers.last())
        .collect();
    let mut head = vec!["call".to_owned()];
    head.extend(
        columns
            .iter()
            .map(|one| format!("{}, {} at work", one.size, one.workers)),
    );
    let calls: Vec<&'static str> = measured
        .first()
        .map_or_else(Vec::new, |one| one.calls.keys().copied().collect());
    let rows: Vec<Vec<String>> = calls
        .iter()
        .map(|call| {
            let mut row = vec![format!("`{call}`")];
            row.extend(columns.iter().map(|one| {
                let times = &one.calls[call];
                format!(
                    "{} / {}",
                    human(times.percentile(50.0)),
                    human(times.percentile(99.0))
                )
            }));
            row
        })
        .collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    report.table(&head, &rows);

    let (Some(small), Some(large)) = (sizes.first(), sizes.last()) else {
        return;
    };
    for what in ["registered, one a call", "archived"] {
        let rate = |size: u64| {
            let rates = measured
                .iter()
                .filter(|one| one.size == size)
                .map(|one| one.rates[what]);
            rates.fold(0.0, f64::max)
        };
        let share = rate(*large) / rate(*small);
        report.goal(
            &format!("{what}: with {large} segments at least half of the rate with {small}"),
            &format!(
                "{:.0} of {:.0} per second ({:.0} %)",
                rate(*large),
                rate(*small),
                share * 100.0
            ),
            share >= 0.5,
        );
    }
}
