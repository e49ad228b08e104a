//! Redis stands still for a second while jobs flow.

use std::path::Path;
use std::time::{Duration, Instant};

use walferry_bench::Report;
use walferry_bench::statistics::human;
use walferry_tests::redis_server::RedisServer;

use crate::Settings;
use crate::contestant::Contestant;
use crate::producer::Producer;
use crate::starts::{Starts, now_ns};
use crate::worker::{self, Worker};

const WHO: [Contestant; 4] = [
    Contestant::Ours,
    Contestant::CeleryOne,
    Contestant::CeleryLate,
    Contestant::ApalisPolling,
];
const STALL: Duration = Duration::from_secs(1);
/// Between two jobs of the flow.
const EVERY: Duration = Duration::from_millis(20);
/// The flow before and after the stall.
const FLOW: Duration = Duration::from_secs(3);
/// Jobs put when all is over, to see whether the worker still works.
const AFTERWARDS: u64 = 20;

pub(crate) fn compare(
    report: &mut Report,
    settings: &Settings,
    folder: &Path,
    redis: &mut RedisServer,
) {
    report.paragraph("### Redis stands still for a second");
    report.paragraph(&format!(
        "A job every {}, one worker; after {} redis-server is stopped (SIGSTOP) for {}, the flow \
         goes on for {}. What did not run {} s later counts as not run. Then {AFTERWARDS} more \
         jobs: does the worker still take any?",
        human(EVERY),
        human(FLOW),
        human(STALL),
        human(FLOW),
        settings.stall_limit
    ));
    let limit = Duration::from_secs(settings.stall_limit);
    let rows: Vec<Vec<String>> = WHO
        .iter()
        .map(|who| measure(*who, limit, folder, redis))
        .collect();
    report.table(
        &[
            "queue",
            "put",
            "put refused",
            "not run",
            "run twice",
            "next job after the stall",
            "process runs",
            "jobs afterwards",
        ],
        &rows,
    );
}

fn measure(
    who: Contestant,
    limit: Duration,
    folder: &Path,
    redis: &mut RedisServer,
) -> Vec<String> {
    redis.command(&["FLUSHALL"]);
    let own = worker::folder(folder, "stall-");
    let starts = Starts::new(own.path().join("starts"));
    worker::open_gate(own.path());
    let mut worker = Worker::start(who, &redis.url(), own.path(), &starts, 0);
    let mut producer = Producer::start(who, &redis.url());
    producer.put(0, 0).expect("Redis takes a job");
    assert!(
        starts.wait_for(1, Duration::from_secs(60)),
        "no worker of {} came up",
        who.name()
    );

    let flow = std::thread::spawn(move || {
        let began = Instant::now();
        let (mut put, mut refused) = (Vec::new(), Vec::new());
        for job in 1.. {
            match producer.put(job, 0) {
                Ok(_) => put.push(job),
                Err(_) => refused.push(job),
            }
            std::thread::sleep(EVERY);
            if began.elapsed() > FLOW + STALL + FLOW {
                break;
            }
        }
        (producer, put, refused)
    });
    std::thread::sleep(FLOW);
    redis.process().freeze();
    std::thread::sleep(STALL);
    redis.process().thaw();
    let thawed = now_ns();
    let (mut producer, put, refused) = flow.join().expect("the flow ends");

    let began = Instant::now();
    let missing = |starts: &Starts| {
        let times = starts.times_run();
        put.iter().filter(|job| !times.contains_key(job)).count()
    };
    while missing(&starts) > 0 && began.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(50));
    }
    let not_run = missing(&starts);
    let next = starts
        .all()
        .iter()
        .map(|start| start.at)
        .filter(|at| *at > thawed)
        .min();

    let first = put.iter().chain(&refused).max().map_or(1, |last| last + 1);
    let afterwards: Vec<u64> = (first..first + AFTERWARDS)
        .filter(|job| producer.put(*job, 0).is_ok())
        .collect();
    let taken = |starts: &Starts| {
        let times = starts.times_run();
        afterwards
            .iter()
            .filter(|job| times.contains_key(job))
            .count()
    };
    let began = Instant::now();
    while taken(&starts) < afterwards.len() && began.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(50));
    }
    let taken = taken(&starts);
    let twice = starts
        .times_run()
        .values()
        .filter(|times| **times > 1)
        .count();
    if who == Contestant::Ours {
        assert!(
            not_run == 0 && taken == afterwards.len(),
            "ours: {not_run} jobs of {} did not run, {taken} of those afterwards did",
            put.len()
        );
    }
    vec![
        who.name().into(),
        put.len().to_string(),
        refused.len().to_string(),
        not_run.to_string(),
        twice.to_string(),
        next.map_or_else(
            || "never".into(),
            |at| human(Duration::from_nanos(at - thawed)),
        ),
        if worker.runs() { "yes" } else { "no" }.into(),
        format!("{taken} of {AFTERWARDS}"),
    ]
}
