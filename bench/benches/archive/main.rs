//! The same segments to two clouds: pgBackRest, the old system's steps in Python, walferry,
//! and a bare loop that does nothing but the work, in one run on the same servers.

mod bare;
mod check;
mod field;
mod old_system;
mod pgbackrest;
mod present;
mod walferry;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use walferry_bench::Report;
use walferry_bench::corpus::{Corpus, Counts, Kind};
use walferry_bench::front::Link;
use walferry_bench::pgbackrest::version;
use walferry_tests::World;

use field::{Field, Outcome};

/// Archives the same segments with pgBackRest, the old system's steps and walferry.
#[derive(Parser)]
#[command(name = "bench/archive")]
struct Args {
    /// Segments full of pgbench's transactions
    #[arg(long, default_value_t = 50)]
    full: usize,
    /// Segments that are 5 to 25 % full, then switched
    #[arg(long, default_value_t = 130)]
    light: usize,
    /// Segments full of random bytes
    #[arg(long, default_value_t = 20)]
    random: usize,
    /// Round trip to both clouds in the second part, in milliseconds; 0 leaves the part out
    #[arg(long, default_value_t = 30, value_name = "MS")]
    latency: u64,
    /// Leave these out: python, gz9, gz6, zst3, bare
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    skip: Vec<String>,
    /// Leave these out of the second part
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME",
        default_value = "python,bare"
    )]
    skip_late: Vec<String>,
    /// Write the report into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// What cargo passes to a bench
    #[arg(long, hide = true)]
    bench: bool,
    /// Run the bare loop with the settings in this file, and print where its time went
    #[arg(long, hide = true, value_name = "FILE")]
    bare_loop: Option<PathBuf>,
}

fn main() {
    let args = Args::parse();
    if let Some(settings) = &args.bare_loop {
        bare::run_here(settings);
        return;
    }
    let mut report = Report::new("archive", "Archiving to two clouds");
    let home = World::builder().bare().build();
    let mut corpus = Corpus::make(
        home.folder(),
        Counts {
            full: args.full,
            light: args.light,
            random: args.random,
            idle: 0,
        },
    );
    introduce(&mut report, &corpus);
    let plain = race(&mut corpus, None, &args.skip);
    present::part(&mut report, "", &plain, &corpus);
    if args.latency > 0 {
        let skip: Vec<String> = args.skip.iter().chain(&args.skip_late).cloned().collect();
        let link = Link {
            round_trip: Duration::from_millis(args.latency),
            ..Link::default()
        };
        let late = race(&mut corpus, Some(link), &skip);
        report.paragraph(&format!(
            "### With {} ms round trip in front of both clouds",
            args.latency
        ));
        present::part(&mut report, "-late", &late, &corpus);
    }
    let missed = report.finish(args.write);
    drop((corpus, home));
    std::process::exit(i32::from(missed > 0));
}

/// What everybody is given.
fn introduce(report: &mut Report, corpus: &Corpus) {
    let bytes = walferry_bench::usage::megabytes(corpus.bytes());
    report.paragraph(&format!(
        "{} segments of PostgreSQL under pgbench, {bytes}: {} full, {} lightly filled and \
         switched, {} of random bytes. Two clouds on this machine (s3s, TLS in front of each), \
         the same for everybody; nothing else runs. Everything that was stored was fetched from \
         both clouds afterwards, unpacked and compared with its original.",
        corpus.segments().len(),
        corpus.count(Kind::Full),
        corpus.count(Kind::Light),
        corpus.count(Kind::Random),
    ));
    report.paragraph(&format!(
        "pgBackRest is Debian's {}: archive-async=y, process-max=2, two repositories; walferry \
         runs one worker at its defaults.",
        version()
    ));
}

/// Everybody who is not skipped, one after the other, in a world of its own.
fn race(corpus: &mut Corpus, link: Option<Link>, skip: &[String]) -> Vec<Outcome> {
    let mut field = Field::new(link);
    let takes_part = |name: &str| !skip.iter().any(|skipped| skipped == name);
    let stanzas: Vec<_> = [("gz", 9), ("gz", 6), ("zst", 3)]
        .into_iter()
        .filter(|(kind, level)| takes_part(&format!("{kind}{level}")))
        .map(|(kind, level)| pgbackrest::stanza(&field, corpus, kind, level))
        .collect();
    // It has made its stanzas, and would remove what is put into its folder.
    corpus.server().stop();
    let mut outcomes = vec![walferry::run(&mut field, corpus)];
    let level = walferry::level(&field);
    for stanza in &stanzas {
        outcomes.push(pgbackrest::run(&mut field, corpus, stanza));
    }
    if takes_part("bare") {
        outcomes.push(bare::run(&mut field, corpus, level));
    }
    if takes_part("python") {
        outcomes.push(old_system::run(&mut field, corpus));
    }
    corpus.server().start_again();
    outcomes
}
