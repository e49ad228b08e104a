//! The job of a worker that is killed with -9 while another one lives. All contestants wait
//! side by side, each on a Redis of its own.

use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
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
/// The job is longer than any wait here.
const HOLD_MS: u64 = 3_600_000;
/// For the second worker to come up.
const SETTLE: Duration = Duration::from_secs(10);
/// Our promise: the lease of 10 s, the poll of 500 ms, and a margin.
const PROMISED: Duration = Duration::from_secs(15);

struct Measured {
    who: Contestant,
    again: Option<Duration>,
    alive: bool,
    left: String,
}

/// The measurements under way.
pub(crate) struct Waits {
    limit: Duration,
    all: Vec<JoinHandle<Measured>>,
}

/// Kills the workers, then returns: the wait goes on beside what else is measured, which
/// the start of these programs would disturb.
pub(crate) fn begin(settings: &Settings, folder: &Path) -> Waits {
    let limit = Duration::from_secs(settings.killed_limit);
    let (killed, all_killed) = std::sync::mpsc::channel();
    let all = WHO.map(|who| {
        let (killed, folder) = (killed.clone(), folder.to_path_buf());
        std::thread::spawn(move || measure(who, limit, &folder, killed))
    });
    drop(killed);
    // A thread that panics sends nothing: the end of all senders is enough, too.
    assert_eq!(
        all_killed.iter().count(),
        WHO.len(),
        "every worker was killed"
    );
    Waits {
        limit,
        all: all.into(),
    }
}

/// Waits for the end and reports it.
pub(crate) fn compare(report: &mut Report, waits: Waits) {
    let limit = waits.limit;
    report.paragraph("### The job of a killed worker");
    report.paragraph(&format!(
        "A worker and its children get SIGKILL while they run a job; a second worker is up. From \
         the kill to the second run of that job, at most {} s. The second worker is alive: it \
         runs a job that is put after the kill. Each on a Redis of its own, side by side, while \
         latency, throughput and the stall were measured.",
        limit.as_secs()
    ));
    let measured: Vec<Measured> = waits
        .all
        .into_iter()
        .map(|one| one.join().expect("the measurement ends"))
        .collect();
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|it| {
            vec![
                it.who.name().into(),
                it.again
                    .map_or_else(|| format!("not within {} s", limit.as_secs()), human),
                documented(it.who).into(),
                if it.alive { "yes" } else { "no" }.into(),
            ]
        })
        .collect();
    report.table(
        &[
            "queue",
            "runs again after",
            "its documented default",
            "second worker takes a new job",
        ],
        &rows,
    );
    if measured.iter().any(|it| it.again.is_none()) {
        report.paragraph("What Redis held when the wait was over:");
    }
    for it in measured.iter().filter(|it| it.again.is_none()) {
        report.paragraph(&format!("- {}: {}", it.who.name(), it.left));
    }
    let ours = measured[0].again;
    report.goal(
        "the job of a killed worker of ours runs again within 15 s",
        &ours.map_or_else(|| "never".into(), human),
        ours.is_some_and(|time| time <= PROMISED),
    );
}

fn documented(who: Contestant) -> &'static str {
    match who {
        Contestant::Ours => "15 s (lease 10 s)",
        Contestant::CeleryLate => "1 h (`visibility_timeout`)",
        Contestant::ApalisRedis | Contestant::ApalisPolling => {
            "300 s (10 missed heartbeats of 30 s)"
        }
        _ => "never: acknowledged before it runs",
    }
}

fn measure(who: Contestant, limit: Duration, folder: &Path, done: Sender<()>) -> Measured {
    let own = worker::folder(folder, "killed-");
    let redis = crate::redis_in(own.path(), "server");
    let starts = Starts::new(own.path().join("starts"));
    worker::open_gate(own.path());
    let mut victim = Worker::start(who, &redis.url(), own.path(), &starts, 0);
    let mut producer = Producer::start(who, &redis.url());
    producer.put(1, HOLD_MS).expect("Redis takes a job");
    assert!(
        starts.wait_for(1, Duration::from_secs(60)),
        "no worker of {} came up",
        who.name()
    );
    let _second = Worker::start(who, &redis.url(), own.path(), &starts, 1);
    std::thread::sleep(SETTLE);
    assert_eq!(
        starts.all().len(),
        1,
        "{}: the job ran twice before the kill",
        who.name()
    );
    victim.kill();
    let killed = now_ns();
    // The second one has a slot for the first job, too: this one does nothing.
    producer.put(2, 0).expect("Redis takes a job");
    let _ = done.send(());
    drop(done);

    let began = Instant::now();
    let again = || {
        starts
            .all()
            .iter()
            .filter(|start| start.job == 1)
            .nth(1)
            .copied()
    };
    while again().is_none() && began.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(20));
    }
    Measured {
        who,
        again: again().map(|start| Duration::from_nanos(start.at - killed)),
        alive: starts.times_run().contains_key(&2),
        left: left_in(&redis),
    }
}

/// Every key that Redis has, with its kind and size.
fn left_in(redis: &RedisServer) -> String {
    let mut keys = redis.strings(&["KEYS", "*"]);
    keys.sort();
    let described: Vec<String> = keys
        .iter()
        .map(|key| {
            let kind: String =
                redis::from_redis_value(redis.command(&["TYPE", key])).expect("a word");
            let size = match kind.as_str() {
                "list" => "LLEN",
                "hash" => "HLEN",
                "set" => "SCARD",
                "zset" => "ZCARD",
                "stream" => "XLEN",
                _ => "STRLEN",
            };
            format!("`{key}` ({kind} of {})", redis.integer(&[size, key]))
        })
        .collect();
    described.join(", ")
}
