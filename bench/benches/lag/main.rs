//! How late an archive is on an idle machine: lightly filled segments at random intervals,
//! handed over by walferry and by pgBackRest, from the rename in the directory to VERIFIED in
//! both clouds, and from `.ready` to the object in both clouds.

mod handover;
mod peer;
mod walferry;
mod watch;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use clap::Parser;
use walferry_bench::Report;
use walferry_bench::corpus::{Corpus, Counts};
use walferry_bench::front::Fronts;
use walferry_bench::pgbackrest::version;
use walferry_bench::statistics::{Times, human};
use walferry_tests::{Cloud, Kind, World};

use handover::Plan;

/// The goals, for the rename to VERIFIED.
const GOALS: [(f64, Duration); 2] = [
    (50.0, Duration::from_millis(500)),
    (99.0, Duration::from_secs(2)),
];

/// Measures how long a segment waits until it is in both clouds, on an idle machine.
#[derive(Parser)]
#[command(name = "bench/lag")]
struct Args {
    /// Segments that count
    #[arg(long, default_value_t = 100)]
    segments: usize,
    /// Segments before them that do not count
    #[arg(long, default_value_t = 3)]
    warm_up: usize,
    /// The shortest interval, in milliseconds
    #[arg(long, default_value_t = 200)]
    least: u64,
    /// The longest interval, in milliseconds
    #[arg(long, default_value_t = 2000)]
    most: u64,
    /// Where the intervals' random numbers begin
    #[arg(long, default_value_t = 6)]
    seed: u64,
    /// Leave these out: gz6, zst3
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    skip: Vec<String>,
    /// Write the report into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// What cargo passes to a bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// What everybody uses.
struct Field {
    world: World,
    fronts: Fronts,
    at: Vec<SocketAddr>,
}

/// One row: from which moment to which, and the time between for each segment.
struct Row {
    name: String,
    times: Times,
}

fn main() {
    let args = Args::parse();
    assert!(
        args.segments > 0 && args.least <= args.most,
        "at least one segment, and intervals from --least to --most"
    );
    // Before there is any load of our own.
    let load_at_start = load();
    let mut report = Report::new("lag", "Lag on an idle machine");
    let mut field = Field::new();
    let mut corpus = Corpus::make(
        field.world.folder(),
        Counts::light(args.warm_up + args.segments),
    );
    let stanzas: Vec<_> = [("gz", 6), ("zst", 3)]
        .into_iter()
        .filter(|(kind, level)| !args.skip.contains(&format!("{kind}{level}")))
        .map(|(kind, level)| peer::stanza(&field, &mut corpus, kind, level))
        .collect();
    // It has made its stanzas, and would archive and recycle at moments of its own.
    corpus.server().stop();
    let plan = Plan::new(&mut corpus, &args);
    introduce(
        &mut report,
        &args,
        &load_at_start,
        &stanzas
            .iter()
            .map(|one| one.described())
            .collect::<Vec<_>>(),
    );

    eprintln!("bench: walferry");
    let mut rows = walferry::run(&field, &corpus, &plan);
    for stanza in &stanzas {
        eprintln!("bench: pgBackRest {}", stanza.described());
        rows.extend(peer::run(&mut field, &corpus, &plan, stanza));
    }
    present(&mut report, &rows);
    for (percent, limit) in GOALS {
        let measured = rows[0].times.percentile(percent);
        report.goal(
            &format!("{}: p{percent} < {}", rows[0].name, human(limit)),
            &human(measured),
            measured < limit,
        );
    }
    let missed = report.finish(args.write);
    corpus.server().start_again();
    drop((corpus, field));
    std::process::exit(i32::from(missed > 0));
}

impl Field {
    fn new() -> Field {
        let mut world = World::builder().clouds(Kind::S3s, Kind::S3s).build();
        let fronts = Fronts::new(world.folder());
        let at = fronts.before(&mut world, None);
        Field { world, fronts, at }
    }

    fn clouds(&self) -> Vec<(&Cloud, SocketAddr)> {
        self.world.clouds().iter().zip(self.at.clone()).collect()
    }

    /// When the later of both clouds had this object whole: the server renames it to its name
    /// then, which sets the file's ctime.
    fn stored_at(&self, key: &str) -> SystemTime {
        use std::os::unix::fs::MetadataExt;
        let in_cloud = |cloud: &Cloud| {
            let folder = self.world.folder().join(cloud.name()).join("data");
            let path = folder.join(cloud.bucket().name()).join(key);
            let found = std::fs::metadata(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let seconds = u64::try_from(found.ctime()).expect("after 1970");
            let nanos = u32::try_from(found.ctime_nsec()).expect("below a second");
            SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
        };
        self.world
            .clouds()
            .iter()
            .map(in_cloud)
            .max()
            .expect("two clouds")
    }
}

/// The file system's clock ticks every few milliseconds and may be behind by so much.
const TICK: Duration = Duration::from_millis(10);

/// From one moment to another; zero when the file system's clock is a tick behind.
///
/// # Panics
/// When the order is wrong by more than that: then a clock was set, and no figure counts.
fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_else(|error| {
        let behind = error.duration();
        assert!(behind <= TICK, "the end is {behind:?} before the beginning");
        Duration::ZERO
    })
}

/// The machine's load of the last minute, proc_loadavg(5).
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn introduce(report: &mut Report, args: &Args, load_at_start: &str, peers: &[String]) {
    report.paragraph(&format!(
        "{} real segments of pgbench, 5 to 25 % filled and switched, one at a time at random \
         intervals of {} to {} (seed {}; {} more before them do not count); the same segments \
         and intervals for everybody, on a machine whose load was {} at the start (idle is near 0; \
         with more, these are no figures of an idle machine). Each is handed over as PostgreSQL \
         does: a `.ready`, then the `archive_command` by the shell, as user postgres, in the \
         data folder. Two clouds on this machine (s3s, TLS in front of each). Everything that \
         was stored was fetched from both clouds afterwards, unpacked and compared with its \
         original.",
        args.segments,
        human(Duration::from_millis(args.least)),
        human(Duration::from_millis(args.most)),
        args.seed,
        args.warm_up,
        load_at_start,
    ));
    report.paragraph(&format!(
        "walferry: `walferry push %p`, a scheduler and one worker, all at their defaults. {}: \
         {}, two repositories.",
        version(),
        peers.join("; ")
    ));
    report.paragraph(
        "*rename*: push has renamed the complete file into the directory, as inotify tells it \
         (within a millisecond while a core is free). *VERIFIED*: `verified_at`, which the \
         catalog's clock sets in the transaction that makes the row VERIFIED, after the PUT and \
         the HEAD of both clouds; the transaction's own flush comes after it. *deleted*: the \
         local file is gone, as inotify tells it: the transaction is committed by then, so the \
         lag is between the two. *in both clouds*: the later of the two objects got its name on \
         its server, by the file's ctime (which is up to 4 ms early), for everybody alike; \
         nobody has checked it by then, and pgBackRest does not. *ready*: PostgreSQL has made \
         the `.ready`; from there on the shell, the start of the command, and for walferry the \
         copy with its fsync are included. *told*: the command has ended. All clocks are this \
         machine's.",
    );
}

fn present(report: &mut Report, rows: &[Row]) {
    let percents = [50.0, 90.0, 99.0, 100.0];
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            std::iter::once(row.name.clone())
                .chain(percents.map(|percent| human(row.times.percentile(percent))))
                .collect()
        })
        .collect();
    report.table(&["", "p50", "p90", "p99", "max"], &table);
    let alike: Vec<&Row> = rows
        .iter()
        .filter(|row| row.name.ends_with(handover::ALIKE))
        .collect();
    if let Some((ours, peers)) = alike.split_first() {
        for peer in peers {
            let ratio = |percent| {
                peer.times.percentile(percent).as_secs_f64()
                    / ours.times.percentile(percent).as_secs_f64()
            };
            report.paragraph(&format!(
                "{} takes {:.2} times as long as {} at p50, {:.2} times at p99.",
                peer.name,
                ratio(50.0),
                ours.name,
                ratio(99.0)
            ));
        }
    }
    let bars: Vec<(String, f64)> = alike
        .iter()
        .flat_map(|row| {
            let name = row.name.split(':').next().unwrap_or_default();
            [50.0, 99.0].map(|percent| {
                (
                    format!("{name}, p{percent}"),
                    row.times.percentile(percent).as_secs_f64() * 1e3,
                )
            })
        })
        .collect();
    report.chart("ready", "From ready to both clouds", "ms", &bars);
}
