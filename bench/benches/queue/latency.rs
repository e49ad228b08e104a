//! From the producer's call to the first line of the job, with an idle worker.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use walferry_bench::Report;
use walferry_bench::statistics::{Times, human};
use walferry_tests::redis_server::RedisServer;

use crate::Settings;
use crate::contestant::Contestant;
use crate::producer::Producer;
use crate::starts::Starts;
use crate::worker::{self, Worker};

const WHO: [Contestant; 5] = [
    Contestant::Ours,
    Contestant::CeleryOne,
    Contestant::CeleryDefault,
    Contestant::ApalisPolling,
    Contestant::ApalisRedis,
];

pub(crate) fn compare(
    report: &mut Report,
    settings: &Settings,
    folder: &Path,
    redis: &RedisServer,
) {
    report.paragraph("### Enqueue to start, one idle worker");
    report.paragraph(&format!(
        "{} jobs at random intervals of 50 to 250 ms; from before the producer's call to the \
         handler's first line.",
        settings.latency_jobs
    ));
    let measured: Vec<(Contestant, Times)> = WHO
        .iter()
        .map(|who| (*who, measure(*who, settings.latency_jobs, folder, redis)))
        .collect();
    let ours = measured[0].1.clone();
    let ratio = |times: &Times, percent: f64| {
        times.percentile(percent).as_secs_f64() / ours.percentile(percent).as_secs_f64()
    };
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|(who, times)| {
            vec![
                who.name().into(),
                human(times.percentile(50.0)),
                human(times.percentile(99.0)),
                human(times.percentile(100.0)),
                format!("{:.1}", ratio(times, 50.0)),
                format!("{:.1}", ratio(times, 99.0)),
            ]
        })
        .collect();
    report.table(
        &["queue", "p50", "p99", "longest", "p50 / ours", "p99 / ours"],
        &rows,
    );
    let bars: Vec<(String, f64)> = measured
        .iter()
        // Its half a minute would leave no room to see the others.
        .filter(|(who, _)| *who != Contestant::ApalisRedis)
        .map(|(who, times)| {
            (
                who.name().replace('`', ""),
                times.percentile(50.0).as_secs_f64() * 1e3,
            )
        })
        .collect();
    report.chart(
        "latency",
        "Enqueue to start, p50, an idle worker",
        "ms",
        &bars,
    );
}

fn measure(who: Contestant, jobs: u64, folder: &Path, redis: &RedisServer) -> Times {
    redis.command(&["FLUSHALL"]);
    let own = worker::folder(folder, "latency-");
    let starts = Starts::new(own.path().join("starts"));
    worker::open_gate(own.path());
    let _worker = Worker::start(who, &redis.url(), own.path(), &starts, 0);
    let mut producer = Producer::start(who, &redis.url());
    // The first one waits for the worker to be up; it does not count.
    producer.put(0, 0).expect("Redis takes a job");
    assert!(
        starts.wait_for(1, Duration::from_secs(60)),
        "no worker of {} came up",
        who.name()
    );
    let mut put = HashMap::new();
    for job in 1..=jobs {
        std::thread::sleep(Duration::from_millis(fastrand::u64(50..=250)));
        put.insert(job, producer.put(job, 0).expect("Redis takes a job"));
    }
    let all = usize::try_from(jobs).expect("a count") + 1;
    assert!(
        starts.wait_for(all, Duration::from_secs(90)),
        "{}: {} of {all} jobs ran",
        who.name(),
        starts.times_run().len()
    );
    let runs = starts.all();
    assert_eq!(runs.len(), all, "{}: a job ran twice", who.name());
    runs.iter()
        .filter(|start| start.job > 0)
        .map(|start| Duration::from_nanos(start.at.saturating_sub(put[&start.job])))
        .collect()
}
