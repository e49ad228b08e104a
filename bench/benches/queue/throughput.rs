//! No-op jobs per second, with several numbers of worker processes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use walferry_bench::Report;
use walferry_tests::redis_server::RedisServer;

use crate::Settings;
use crate::contestant::Contestant;
use crate::producer::Producer;
use crate::starts::{Start, Starts};
use crate::worker::{self, Worker};

const WHO: [Contestant; 5] = [
    Contestant::Ours,
    Contestant::CeleryOne,
    Contestant::CeleryDefault,
    Contestant::ApalisPolling,
    Contestant::ApalisRedis,
];

/// How long all jobs may take.
const LIMIT: Duration = Duration::from_secs(120);

struct Measured {
    enqueued_per_second: f64,
    bytes_per_job: f64,
    run_per_second: f64,
    twice: usize,
    lost: u64,
    /// Jobs of the worker that had the fewest.
    fewest: usize,
}

pub(crate) fn compare(
    report: &mut Report,
    settings: &Settings,
    folder: &Path,
    redis: &RedisServer,
) {
    report.paragraph("### No-op jobs per second");
    report.paragraph(&format!(
        "{} jobs lie ready, then the workers begin together. Jobs per second between the first \
         tenth and the last tenth of the starts, so that neither the workers' own start nor the \
         last stragglers count; every job is counted. Enqueueing: one producer, one call after \
         the other. Memory: Redis's `used_memory` for each waiting job.",
        settings.jobs
    ));
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    let mut ours = BTreeMap::new();
    for who in WHO {
        for &workers in &settings.workers {
            let it = measure(who, workers, settings.jobs, folder, redis);
            if who == Contestant::Ours {
                ours.insert(workers, it.run_per_second);
                assert!(
                    it.twice == 0 && it.lost == 0,
                    "ours: {} jobs ran twice, {} were lost",
                    it.twice,
                    it.lost
                );
            }
            bars.push((
                format!("{}, {workers}", who.name().replace('`', "")),
                it.run_per_second,
            ));
            rows.push(vec![
                who.name().into(),
                workers.to_string(),
                format!("{:.0}", it.run_per_second),
                format!("{:.2}", ours[&workers] / it.run_per_second),
                format!("{:.0}", it.enqueued_per_second),
                format!("{:.0} B", it.bytes_per_job),
                it.fewest.to_string(),
                it.twice.to_string(),
                it.lost.to_string(),
            ]);
        }
    }
    report.table(
        &[
            "queue",
            "workers",
            "jobs/s",
            "ours / it",
            "enqueued/s",
            "memory a job",
            "fewest of a process",
            "run twice",
            "lost",
        ],
        &rows,
    );
    report.chart(
        "throughput",
        "No-op jobs, by worker processes",
        "jobs/s",
        &bars,
    );
}

fn measure(
    who: Contestant,
    workers: usize,
    jobs: u64,
    folder: &Path,
    redis: &RedisServer,
) -> Measured {
    redis.command(&["FLUSHALL"]);
    let own = worker::folder(folder, "throughput-");
    let starts = Starts::new(own.path().join("starts"));
    let mut producer = Producer::start(who, &redis.url());
    // Whatever a queue keeps once, and no job of the count.
    producer.bulk(0, 1);
    let before = crate::used_memory(redis);
    let began = Instant::now();
    producer.bulk(1, jobs);
    let took = began.elapsed();
    let used = crate::used_memory(redis).saturating_sub(before);

    let running: Vec<Worker> = (0..workers)
        .map(|number| Worker::start(who, &redis.url(), own.path(), &starts, number))
        .collect();
    // Programs are loaded meanwhile: they wait for the gate, not for a processor.
    std::thread::sleep(
        Duration::from_secs(2) + Duration::from_millis(700) * u32::try_from(workers).expect("few"),
    );
    worker::open_gate(own.path());
    let all = usize::try_from(jobs).expect("a count") + 1;
    starts.wait_for(all, LIMIT);
    // One that runs twice may come late.
    std::thread::sleep(Duration::from_millis(500));
    drop(running);

    let runs = starts.all();
    let times = starts.times_run();
    #[expect(clippy::cast_precision_loss, reason = "thousands of jobs")]
    let jobs_f = jobs as f64;
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let used = used as f64;
    Measured {
        enqueued_per_second: jobs_f / took.as_secs_f64(),
        bytes_per_job: used / jobs_f,
        run_per_second: rate(&runs),
        twice: times.values().filter(|count| **count > 1).count(),
        lost: jobs + 1 - u64::try_from(times.len()).expect("a count"),
        fewest: fewest(&runs, workers),
    }
}

/// Starts per second between the first tenth and the last.
fn rate(runs: &[Start]) -> f64 {
    let mut at: Vec<u64> = runs.iter().map(|start| start.at).collect();
    at.sort_unstable();
    let (first, last) = (at.len() / 10, at.len() * 9 / 10);
    if last <= first {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "thousands of jobs")]
    let count = (last - first) as f64;
    count / Duration::from_nanos(at[last] - at[first]).as_secs_f64()
}

/// How many jobs the process had that had the fewest; 0 if a worker had none.
fn fewest(runs: &[Start], workers: usize) -> usize {
    let mut by_process = BTreeMap::new();
    for start in runs {
        *by_process.entry(start.process).or_insert(0) += 1;
    }
    if by_process.len() < workers {
        return 0;
    }
    by_process.values().copied().min().unwrap_or(0)
}
