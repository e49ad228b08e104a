//! A no-op worker and a producer on stock `apalis-redis`, with its defaults.
//!
//! `worker URL STARTS GATE [POLL_MS]`: waits for the file GATE, then notes `job pid ns` in STARTS for
//! each job that begins. `produce URL`: `put JOB HOLD_MS` and `bulk FIRST COUNT` on standard
//! input, `ok BEFORE_NS` or `failed REASON` on standard output for each.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use apalis::prelude::*;
use apalis_redis::RedisStorage;
use futures::stream::{Stream, poll_fn};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct NoOp {
    job: u64,
    hold_ms: u64,
}

type Starts = Arc<std::fs::File>;

async fn run(task: NoOp, starts: Data<Starts>) -> Result<(), BoxDynError> {
    let line = format!("{} {} {}\n", task.job, std::process::id(), now_ns());
    (&**starts).write_all(line.as_bytes())?;
    if task.hold_ms > 0 {
        tokio::time::sleep(Duration::from_millis(task.hold_ms)).await;
    }
    Ok(())
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().collect();
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match word(1) {
        "worker" => work(word(2), word(3), word(4), word(5)).await,
        "produce" => produce(word(2)).await,
        other => panic!("`{other}` is neither `worker` nor `produce`"),
    }
}

async fn storage(url: &str) -> RedisStorage<NoOp> {
    let connection = apalis_redis::connect(url).await.expect("Redis runs");
    RedisStorage::new(connection)
}

async fn work(url: &str, starts: &str, gate: &str, poll_ms: &str) {
    let storage = storage(url).await;
    let starts: Starts = Arc::new(
        std::fs::File::options()
            .append(true)
            .open(starts)
            .expect("the file of starts is there"),
    );
    while !Path::new(gate).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let worker = WorkerBuilder::new(format!("worker-{}", std::process::id()));
    let ended = match poll_ms.parse() {
        Ok(ms) => {
            let storage = storage.poll_with_stream(ticks(Duration::from_millis(ms)));
            worker.backend(storage).data(starts).build(run).run().await
        }
        Err(_) => worker.backend(storage).data(starts).build(run).run().await,
    };
    eprintln!("the worker ended: {ended:?}");
}

/// Wakes the worker so often. `poll_with_interval` does so until the timer ends in the very
/// poll that hands out a job: the next timer is then not looked at, nobody is woken by it, and
/// the worker sleeps until its heartbeat. This one is looked at again at once.
fn ticks(every: Duration) -> impl Stream<Item = ()> + Unpin + Send + 'static {
    let mut interval = tokio::time::interval(every);
    poll_fn(move |context| {
        let mut ticked = false;
        while interval.poll_tick(context).is_ready() {
            ticked = true;
        }
        if ticked {
            Poll::Ready(Some(()))
        } else {
            Poll::Pending
        }
    })
}

async fn produce(url: &str) {
    let mut storage = storage(url).await;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        let jobs = match words[0] {
            "put" => vec![NoOp {
                job: number(1),
                hold_ms: number(2),
            }],
            _ => (number(1)..number(1) + number(2))
                .map(|job| NoOp { job, hold_ms: 0 })
                .collect(),
        };
        let before = now_ns();
        let mut answer = format!("ok {before}");
        for job in jobs {
            if let Err(error) = storage.push(job).await {
                answer = format!("failed {error}");
                break;
            }
        }
        println!("{answer}");
    }
}

fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_nanos()
}
