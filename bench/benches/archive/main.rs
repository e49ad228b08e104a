//! The same segments to two clouds: pgBackRest, the old system's steps in Python, walferry,
//! and a bare loop that does nothing but the work, in one run on the same servers.

mod bare;
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
use walferry_bench::statistics::human;
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
    /// Round trip to both clouds in the second part; 0ms leaves the part out
    #[arg(long, default_value = "30ms", value_parser = milliseconds)]
    latency: Duration,
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
    /// A setting of walferry that differs from its default: archive.level=6
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
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
    introduce(&mut report, &home, &corpus, &args.set);
    let plain = race(&mut corpus, None, &args.skip, &args.set);
    present::part(&mut report, "", &plain, &corpus);
    if !args.latency.is_zero() {
        let skip: Vec<String> = args.skip.iter().chain(&args.skip_late).cloned().collect();
        let link = Link {
            round_trip: args.latency,
            ..Link::default()
        };
        let late = race(&mut corpus, Some(link), &skip, &args.set);
        report.paragraph(&format!(
            "### With {} round trip in front of both clouds",
            human(args.latency)
        ));
        present::part(&mut report, "-late", &late, &corpus);
    }
    let missed = report.finish(args.write);
    drop((corpus, home));
    std::process::exit(i32::from(missed > 0));
}

/// `30ms` as a time.
fn milliseconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix("ms").ok_or("a time is written `30ms`")?;
    let number = number.parse().map_err(|error| format!("{error}"))?;
    Ok(Duration::from_millis(number))
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting is NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

/// What everybody is given.
fn introduce(report: &mut Report, home: &World, corpus: &Corpus, settings: &[(String, String)]) {
    let stat = std::process::Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(home.folder())
        .output()
        .expect("ask for the file system's type");
    let file_system = String::from_utf8_lossy(&stat.stdout);
    let bytes = walferry_bench::usage::megabytes(corpus.bytes());
    report.paragraph(&format!(
        "{} segments of PostgreSQL under pgbench, {bytes}: {} full, {} lightly filled and \
         switched, {} of random bytes. Two clouds on this machine (s3s, TLS in front of each), \
         the same for everybody; all folders on {}. Everything that was stored was fetched from \
         both clouds afterwards, unpacked and compared with its original. Time is from the first \
         step to the last segment in both clouds; memory is summed over a contestant's \
         processes.",
        corpus.segments().len(),
        corpus.count(Kind::Full),
        corpus.count(Kind::Light),
        corpus.count(Kind::Random),
        file_system.trim(),
    ));
    report.paragraph(&format!(
        "{} runs with archive-async=y, process-max=2 and two repositories, called for one \
         segment after the other as PostgreSQL does; walferry is one worker at its defaults{}.",
        version(),
        settings
            .iter()
            .map(|(name, value)| format!(", but {name} is {value}"))
            .collect::<String>()
    ));
}

/// Everybody who is not skipped, one after the other, in a world of its own.
fn race(
    corpus: &mut Corpus,
    link: Option<Link>,
    skip: &[String],
    settings: &[(String, String)],
) -> Vec<Outcome> {
    let mut field = Field::new(link);
    for (name, value) in settings {
        field.world.set(name, value);
    }
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
