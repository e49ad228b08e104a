//! The most resident memory that one worker ever has: over a long backlog, by packing
//! threads, beside a slow cloud, and with the largest segments there are.

mod huge;
mod run;

use std::time::Duration;

use clap::Parser;
use walferry_bench::Report;
use walferry_bench::corpus::{Corpus, Counts, Kind};
use walferry_bench::usage::megabytes;
use walferry_tests::World;

use run::Run;

/// Percent that a lightly filled segment may be full by; how full they are is printed.
const MOST_LIGHT: u64 = 90;

/// What a worker with one packing thread may have, in bytes.
const ONE_THREAD: u64 = 64_000_000;
/// What each further packing thread may add, in bytes.
const FURTHER_THREAD: u64 = 36_000_000;
/// What counts as no growth: pages that come and go make that much.
const NO_GROWTH: f64 = 2e6;

/// Measures the peak memory of a worker.
#[derive(Parser)]
#[command(name = "bench/memory")]
struct Args {
    /// Segments: a tenth is full, one of a hundred random bytes, the others lightly filled
    #[arg(long, default_value_t = 2000)]
    segments: usize,
    /// Packing threads of each run
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "1,2,4")]
    threads: Vec<u64>,
    /// Bytes per second towards the slow cloud; 0 leaves that part out
    #[arg(long, default_value_t = 1_000_000)]
    slow: u64,
    /// Segments of 1 GiB; 0 leaves that part out
    #[arg(long, default_value_t = 4)]
    huge: usize,
    /// An environment variable for the worker alone: MALLOC_ARENA_MAX=2
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    variable: Vec<(String, String)>,
    /// Write the report into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// What cargo passes to a bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let mut report = Report::new("memory", "Memory of a worker");
    let home = World::builder().bare().build();
    let mut runs = Vec::new();
    if !args.threads.is_empty() && args.segments > 0 {
        backlog(&mut report, &home, &args, &mut runs);
    }
    if args.huge > 0 {
        let huge = huge::make(&home, args.huge);
        report.paragraph(&format!(
            "Segments of 1 GiB: {} by a server made with `--wal-segsize=1024`, full of what \
             pgbench loads and does; streamed, and sent in parts.",
            huge.len()
        ));
        let run = Run::new("segments of 1 GiB, 1 thread", 1, &args.variable);
        runs.push(run.drain(&huge));
    }
    present(&mut report, &runs);
    let missed = report.finish(args.write);
    drop(home);
    std::process::exit(i32::from(missed > 0));
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

/// The long backlog, with each number of threads, and beside a slow cloud.
fn backlog(report: &mut Report, home: &World, args: &Args, runs: &mut Vec<run::Outcome>) {
    let (full, random) = (args.segments / 10, args.segments.div_ceil(100));
    let counts = Counts {
        full,
        random,
        light: args.segments - full - random,
        idle: 0,
    };
    let mut corpus = Corpus::make_within(home.folder(), counts, MOST_LIGHT);
    corpus.server().stop();
    let (mean, most) = corpus.light_fill();
    let segments = corpus.segments();
    report.paragraph(&format!(
        "{} segments of PostgreSQL under pgbench, {}: {} full, {} lightly filled and switched (mean {mean} %, at most {most} %), \
         {} of random bytes, all in the directory before the worker starts. Two clouds on this \
         machine (s3s, TLS in front of each). One worker at its defaults but for \
         `worker.pack_threads`{}. Its peak is the kernel's (VmHWM), its memory is looked at every \
         {} ms. Every segment VERIFIED in the catalog, fetched from both clouds, unpacked and \
         compared with its original, beside the slow cloud those that it has. MB are millions.",
        segments.len(),
        megabytes(corpus.bytes()),
        corpus.count(Kind::Full),
        corpus.count(Kind::Light),
        corpus.count(Kind::Random),
        args.variable
            .iter()
            .map(|(name, value)| format!(" and {name}={value} in its environment"))
            .collect::<String>(),
        run::LOOK.as_millis(),
    ));
    for threads in &args.threads {
        let name = format!("{} segments, {threads} threads", segments.len());
        let name = name.replace(" 1 threads", " 1 thread");
        runs.push(Run::new(&name, *threads, &args.variable).drain(segments));
    }
    if args.slow > 0 {
        let undisturbed = runs.iter().find(|run| run.threads == 1).map(|run| run.wall);
        let name = format!("one cloud at {}/s, 1 thread", megabytes(args.slow));
        let mut run = Run::new(&name, 1, &args.variable);
        run.narrow(args.slow);
        let (outcome, slow_has) = run.drain_fast(segments);
        report.paragraph(&format!(
            "Beside a cloud at {}/s the other one had all {} segments after {}; the slow one had \
             {slow_has} by then, and there the run was stopped.",
            megabytes(args.slow),
            segments.len(),
            walferry_bench::statistics::human(outcome.wall),
        ));
        if let Some(undisturbed) = undisturbed {
            waits(report, undisturbed, outcome.wall);
        }
        runs.push(outcome);
    }
}

fn waits(report: &mut Report, undisturbed: Duration, beside: Duration) {
    let ratio = beside.as_secs_f64() / undisturbed.as_secs_f64();
    report.goal(
        "the fast cloud does not wait for the slow one: at most 1.25 times the time that both \
         fast clouds took",
        &format!("{ratio:.2} times"),
        ratio <= 1.25,
    );
}

/// Table, goals and picture.
fn present(report: &mut Report, runs: &[run::Outcome]) {
    let mega = |bytes: f64| format!("{:.1}", bytes / 1e6);
    let growth = |run: &run::Outcome| run.early.zip(run.late);
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let (early, late) = growth(run)
                .map_or(("—".into(), "—".into()), |(early, late)| {
                    (mega(early), mega(late))
                });
            vec![
                run.name.clone(),
                format!("{:.1}", run.wall.as_secs_f64()),
                megabytes(run.peak),
                megabytes(limit(run.threads)),
                early,
                late,
            ]
        })
        .collect();
    report.table(
        &[
            "",
            "wall s",
            "peak RSS",
            "goal",
            "RSS MB around the first tenth",
            "RSS MB at the end",
        ],
        &rows,
    );
    for run in runs {
        let limit = limit(run.threads);
        report.goal(
            &format!("{}: peak at most {}", run.name, megabytes(limit)),
            &megabytes(run.peak),
            run.peak <= limit,
        );
        if let Some((early, late)) = growth(run) {
            report.goal(
                &format!(
                    "{}: flat, at most {} MB more at the end than around the {}th",
                    run.name,
                    mega(NO_GROWTH),
                    run.segments / 10
                ),
                &format!("{:+.1} MB", (late - early) / 1e6),
                late - early <= NO_GROWTH,
            );
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    let bars: Vec<(String, f64)> = runs
        .iter()
        .map(|run| (run.name.clone(), run.peak as f64 / 1e6))
        .collect();
    report.chart("peak", "Peak memory of a worker", "MB", &bars);
}

fn limit(threads: u64) -> u64 {
    ONE_THREAD + FURTHER_THREAD * threads.saturating_sub(1)
}
