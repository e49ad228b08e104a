//! A backlog as an outage of three days leaves it: how fast one worker and four drain it,
//! with clouds at hand and far away, and whether the ETA was right meanwhile.

mod run;

use std::time::Duration;

use clap::Parser;
use walferry_bench::Report;
use walferry_bench::corpus::{Corpus, Counts, Kind};
use walferry_bench::statistics::human;
use walferry_bench::usage::megabytes;
use walferry_tests::World;

use run::Outcome;

/// Percent that a lightly filled segment may be full by; how full they are is printed.
const MOST_LIGHT: u64 = 90;

/// What several workers have to be faster by, with clouds far away.
const FASTER: f64 = 3.5;

/// Drains a backlog with one worker and with several.
#[derive(Parser)]
#[command(name = "bench/backlog")]
struct Args {
    /// Segments: one of twenty is full, the others lightly filled
    #[arg(long, default_value_t = 847)]
    segments: usize,
    /// Workers of the second run of each part
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Milliseconds of round trip to both clouds in the second part; 0 leaves it out
    #[arg(long, default_value_t = 200)]
    latency: u64,
    /// Leave out the part without latency
    #[arg(long)]
    only_late: bool,
    /// A setting of walferry that differs from its default: worker.segments_in_flight=16
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Write the report into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// What cargo passes to a bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let mut report = Report::new("backlog", "Draining a backlog");
    let home = World::builder().bare().build();
    let full = args.segments.div_ceil(20);
    let counts = Counts {
        full,
        ..Counts::light(args.segments - full)
    };
    let mut corpus = Corpus::make_within(home.folder(), counts, MOST_LIGHT);
    corpus.server().stop();
    let (mean, fullest) = corpus.light_fill();
    let settings: String = args
        .set
        .iter()
        .map(|(name, value)| format!(", but {name} is {value}"))
        .collect();
    report.paragraph(&format!(
        "{} segments of PostgreSQL under pgbench, {}: {} full, {} lightly filled and switched (mean {mean} %, at most {fullest} %), \
         all in the directory before a worker starts. Two clouds on this machine (s3s, TLS in \
         front of each), workers at their defaults{settings}, all on this machine. Time is from \
         the start of the workers to the last file deleted. Every segment VERIFIED in the \
         catalog, fetched from both clouds, unpacked and compared with its original.",
        corpus.segments().len(),
        megabytes(corpus.bytes()),
        corpus.count(Kind::Full),
        corpus.count(Kind::Light),
    ));
    let mut most = None;
    if !args.only_late {
        let outcomes = [1, args.workers]
            .map(|workers| run::drain(corpus.segments(), workers, Duration::ZERO, &args.set));
        part(&mut report, "", &outcomes);
        report.paragraph(
            "No goal is set here: where the workers' CPU seconds come near to the wall time times \
             the cores, several only do the same work beside each other.",
        );
        most = Some(outcomes[0].speed().max(outcomes[1].speed()));
    }
    if args.latency > 0 {
        let late = Duration::from_millis(args.latency);
        report.paragraph(&format!(
            "### With {} round trip in front of both clouds",
            human(late)
        ));
        let outcomes = [1, args.workers]
            .map(|workers| run::drain(corpus.segments(), workers, late, &args.set));
        part(&mut report, "-late", &outcomes);
        let ratio = faster(&outcomes);
        report.goal(
            &format!(
                "{} workers at least {FASTER} times faster than one",
                args.workers
            ),
            &format!("{ratio:.2} times"),
            ratio >= FASTER,
        );
        if let Some(most) = most {
            report.paragraph(&format!(
                "The cores' limit: without latency this machine archives {most:.1} of these \
                 segments per second, {:.2} times what one worker does with it. No number of \
                 workers can do more here.",
                most / outcomes[0].speed()
            ));
        }
    }
    let missed = report.finish(args.write);
    drop((corpus, home));
    std::process::exit(i32::from(missed > 0));
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting is NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

fn faster([one, several]: &[Outcome; 2]) -> f64 {
    one.wall.as_secs_f64() / several.wall.as_secs_f64()
}

/// Tables and picture of one part.
fn part(report: &mut Report, suffix: &str, outcomes: &[Outcome; 2]) {
    let name = |one: &Outcome| match one.workers {
        1 => "1 worker".to_owned(),
        several => format!("{several} workers"),
    };
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|one| {
            vec![
                name(one),
                format!("{:.1}", one.wall.as_secs_f64()),
                format!("{:.1}", one.speed()),
                format!("{:.1}", one.cpu.as_secs_f64()),
                human(one.each),
                one.stored
                    .iter()
                    .map(u64::to_string)
                    .collect::<Vec<_>>()
                    .join(" + "),
            ]
        })
        .collect();
    report.table(
        &[
            "",
            "wall s",
            "seg/s",
            "workers' CPU s",
            "mean time of a segment, claim to completion",
            "bytes in r2 + b2",
        ],
        &rows,
    );
    report.paragraph(&format!(
        "{} are {:.2} times as fast as {}.",
        name(&outcomes[1]),
        faster(outcomes),
        name(&outcomes[0])
    ));
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .flat_map(|one| one.forecasts.iter().map(move |forecast| (one, forecast)))
        .map(|(one, forecast)| {
            let (eta, error) = forecast.eta.map_or(("none".into(), "—".into()), |eta| {
                (
                    format!("{} s", eta.as_secs()),
                    format!("{:+.0} %", forecast.error(eta, one.wall)),
                )
            });
            vec![
                name(one),
                format!("{} %", forecast.percent),
                eta,
                format!("{:.1} s", (one.wall - forecast.at).as_secs_f64()),
                error,
            ]
        })
        .collect();
    report.table(&["", "done", "ETA of `status`", "it took", "error"], &rows);
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .flat_map(|one| one.requests.iter().map(move |requests| (one, requests)))
        .map(|(one, (kind, requests, mean))| {
            vec![
                name(one),
                kind.clone(),
                format!("{requests:.2}"),
                human(*mean),
            ]
        })
        .collect();
    report.table(&["", "request", "per segment", "mean time"], &rows);
    let bars: Vec<(String, f64)> = outcomes
        .iter()
        .map(|one| (name(one), one.speed()))
        .collect();
    report.chart(
        &format!("speed{suffix}"),
        "A backlog drained to two clouds",
        "segments per second",
        &bars,
    );
}
