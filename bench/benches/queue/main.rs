//! Our queue, Celery with Redis, and stock `apalis-redis`, one after the other on one real
//! Redis: how soon a job starts, how many run in a second, what becomes of the job of a killed
//! worker, what a stall of Redis does; and whether 100,000 waiting jobs slow our calls.

mod contestant;
mod killed;
mod latency;
mod ours;
mod producer;
mod stall;
mod starts;
mod throughput;
mod waiting;
mod worker;

use std::path::Path;

use clap::{Parser, Subcommand};
use contestant::Contestant;
use walferry_bench::Report;
use walferry_tests::redis_server::RedisServer;

/// Compares our queue with Celery and apalis-redis.
#[derive(Debug, Parser)]
#[command(name = "bench/queue", subcommand_negates_reqs = true)]
pub(crate) struct Settings {
    /// Jobs for the latency, put one by one at random intervals of 50 to 250 ms.
    #[arg(long, default_value_t = 200)]
    latency_jobs: u64,
    /// Jobs that lie ready when the workers begin.
    #[arg(long, default_value_t = 5_000)]
    jobs: u64,
    /// Numbers of worker processes.
    #[arg(long, value_delimiter = ',', default_value = "1,4,8")]
    workers: Vec<usize>,
    /// The longest to wait for the job of a killed worker, in seconds.
    #[arg(long, default_value_t = 330)]
    killed_limit: u64,
    /// The longest to wait for what a stall may have left behind, in seconds.
    #[arg(long, default_value_t = 15)]
    stall_limit: u64,
    /// Jobs that wait while our calls are timed.
    #[arg(long, default_value_t = 100_000)]
    waiting: u64,
    /// Times that each of our calls is timed.
    #[arg(long, default_value_t = 500)]
    calls: u64,
    /// Writes the report into `docs/benchmarks.md`, too.
    #[arg(long)]
    write: bool,
    /// Cargo's own.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program is when it has started itself again.
#[derive(Debug, Subcommand)]
enum Part {
    /// A worker process of ours.
    #[command(hide = true)]
    Worker {
        url: String,
        starts: std::path::PathBuf,
        gate: std::path::PathBuf,
    },
    /// A producer of ours.
    #[command(hide = true)]
    Produce { url: String },
}

fn main() {
    let settings = Settings::parse();
    match &settings.part {
        Some(Part::Worker { url, starts, gate }) => return ours::work(url, starts, gate),
        Some(Part::Produce { url }) => return ours::produce(url),
        None => {}
    }
    let folder = tempfile::Builder::new()
        .prefix("walferry-bench-queue-")
        .tempdir()
        .expect("a temporary folder");
    let mut report = Report::new("queue", "Queue");
    let mut redis = redis_in(folder.path(), "one");
    introduce(&mut report, &redis);
    waiting::compare(&mut report, &settings, &redis);
    let killed = killed::begin(&settings, folder.path());
    latency::compare(&mut report, &settings, folder.path(), &redis);
    throughput::compare(&mut report, &settings, folder.path(), &redis);
    stall::compare(&mut report, &settings, folder.path(), &mut redis);
    killed::compare(&mut report, killed);
    if report.finish(settings.write) > 0 {
        std::process::exit(1);
    }
}

/// A Redis server of its own in `<folder>/<name>`.
fn redis_in(folder: &Path, name: &str) -> RedisServer {
    let own = folder.join(name);
    std::fs::create_dir_all(own.join("logs")).expect("a folder for the server's output");
    RedisServer::start(&own)
}

fn introduce(report: &mut Report, redis: &RedisServer) {
    let info = info(redis, "server", "redis_version");
    report.paragraph(&format!(
        "Redis {info}, `appendonly yes`, `appendfsync everysec`, the same for all. A worker is a \
         process that runs one job at a time, unless said otherwise; a no-op job notes its number, \
         its process and the time with one write to a file."
    ));
    let rows: Vec<Vec<String>> = Contestant::ALL
        .iter()
        .map(|who| vec![who.name().into(), who.version(), who.settings().into()])
        .collect();
    report.table(&["contestant", "version", "settings"], &rows);
}

/// One field of Redis's `INFO`.
fn info(redis: &RedisServer, section: &str, field: &str) -> String {
    let text: String = redis::from_redis_value(redis.command(&["INFO", section])).expect("text");
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("INFO {section} has no {field}"))
        .trim()
        .to_owned()
}

/// Bytes that Redis has in use for what it holds: without what waits for its log's next write.
fn used_memory(redis: &RedisServer) -> u64 {
    let bytes = |field| -> u64 {
        info(redis, "memory", field)
            .parse()
            .expect("a number of bytes")
    };
    bytes("used_memory").saturating_sub(bytes("mem_aof_buffer"))
}
