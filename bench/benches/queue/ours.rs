//! Our side of the comparison: a worker process and a producer on `walferry-queue`, built as
//! the worker of the product builds them, with a handler that only notes that it began.

use std::fs::File;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use walferry_queue::{
    Consumer, ConsumerHealth, Handler, Job, JobContext, NewJob, Outcome, Queue, QueueSettings,
    RedisSettings, WorkerIdentity,
};

use crate::starts::now_ns;

/// The name of our queue; its keys begin with `{bench}:`.
pub(crate) const QUEUE: &str = "bench";

/// Our queue with its defaults.
pub(crate) fn queue(url: &str) -> Queue {
    let name = QUEUE.parse().expect("a good name");
    Queue::new(RedisSettings::new(url), name, QueueSettings::default()).expect("a good URL")
}

/// A no-op job.
pub(crate) fn job(number: u64, hold_ms: u64) -> NewJob {
    let args = serde_json::json!({ "job": number, "hold_ms": hold_ms });
    NewJob::new("noop", 1, args)
}

#[derive(Clone)]
struct NoOp(Arc<File>);

impl Handler for NoOp {
    fn knows(&self, name: &str, version: u32) -> bool {
        (name, version) == ("noop", 1)
    }

    async fn handle(&self, job: Job, _context: JobContext) -> Outcome {
        let number = |field: &str| job.args[field].as_u64().expect("a number");
        let line = format!("{} {} {}\n", number("job"), std::process::id(), now_ns());
        (&*self.0)
            .write_all(line.as_bytes())
            .expect("note the start");
        if number("hold_ms") > 0 {
            tokio::time::sleep(Duration::from_millis(number("hold_ms"))).await;
        }
        Outcome::Done
    }
}

/// Works until it is killed.
#[tokio::main]
pub(crate) async fn work(url: &str, starts: &Path, gate: &Path) {
    let starts = File::options().append(true).open(starts);
    let starts = Arc::new(starts.expect("the file of starts is there"));
    let queue = queue(url);
    let worker = WorkerIdentity::of_this_process(&[queue.name().clone()]);
    while !gate.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let consumer = Consumer {
        queue,
        worker,
        slots: 1,
        grace: Duration::from_secs(5),
    };
    let ended = consumer
        .run(
            NoOp(starts),
            CancellationToken::new(),
            ConsumerHealth::new(),
        )
        .await;
    eprintln!("the worker ended: {ended:?}");
}

/// Obeys `put JOB HOLD_MS` and `bulk FIRST COUNT`, one job after the other.
#[tokio::main]
pub(crate) async fn produce(url: &str) {
    let queue = queue(url);
    queue.ping().await.expect("Redis runs");
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        let (jobs, hold_ms) = match words[0] {
            "put" => (number(1)..number(1) + 1, number(2)),
            _ => (number(1)..number(1) + number(2), 0),
        };
        let before = now_ns();
        let mut answer = format!("ok {before}");
        for number in jobs {
            if let Err(error) = queue.enqueue(job(number, hold_ms)).await {
                answer = format!("failed {error}");
                break;
            }
        }
        println!("{answer}");
    }
}
