//! How long PostgreSQL waits for `walferry push`, beyond the copy and the fsync that nobody
//! can do without, and for `pgbackrest archive-push`.

mod copy;
mod ours;
mod peer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use walferry_bench::Report;
use walferry_bench::archiver::Archiver;
use walferry_bench::corpus::{Corpus, Counts};
use walferry_bench::front::Fronts;
use walferry_bench::pgbackrest::version;
use walferry_bench::statistics::{Times, human};
use walferry_tests::{Kind, User, World};

/// The goal for p99 of the time beyond copy and fsync.
const GOAL: Duration = Duration::from_millis(15);

/// Measures `walferry push` and `pgbackrest archive-push` as PostgreSQL calls them.
#[derive(Parser)]
#[command(name = "bench/push")]
struct Args {
    /// Calls of `walferry push`
    #[arg(long, default_value_t = 1000)]
    calls: usize,
    /// Different segments; pgBackRest archives each once, one by one and once more as a backlog
    #[arg(long, default_value_t = 250)]
    segments: usize,
    /// A folder in memory, for the second directory
    #[arg(long, default_value = "/dev/shm", value_name = "FOLDER")]
    memory: PathBuf,
    /// Leave pgBackRest out
    #[arg(long)]
    no_peer: bool,
    /// Write the report into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// What cargo passes to a bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    assert!(args.calls > 0 && args.segments > 0, "nothing to measure");
    let mut report = Report::new("push", "What PostgreSQL waits for");
    let mut world = World::builder().clouds(Kind::S3s, Kind::S3s).build();
    let fronts = Fronts::new(world.folder());
    let at = fronts.before(&mut world, None);
    let mut corpus = Corpus::make(world.folder(), Counts::light(args.segments));
    let stanza = (!args.no_peer).then(|| peer::stanza(&world, &fronts, &at, &mut corpus));
    // It has made its stanza, and would archive and recycle at moments of its own.
    corpus.server().stop();
    let archiver = Archiver::new(corpus.server());
    archiver.place(corpus.segments());

    introduce(&mut report, &args);
    let program = world.program_path("walferry");
    let measure = |directory: &Path, report: &mut Report| {
        eprintln!("bench: walferry push into {}", directory.display());
        report.paragraph(&format!(
            "### Into a directory on {}",
            file_system(directory)
        ));
        let ours = ours::run(&program, directory, &corpus, &archiver, args.calls);
        ours.present(report);
        ours
    };
    let ours = measure(&world.archive(), &mut report);
    let memory = Folder::new(&args.memory);
    let without_disk = measure(&memory.0, &mut report);
    drop(memory);
    let mut bars = vec![
        bar("walferry push", &ours.push),
        bar("copy and fsync alone", &ours.copy),
    ];
    if let Some(stanza) = &stanza {
        report.paragraph(&format!(
            "{}: {}, two repositories behind TLS on this machine; each of the {} segments once.",
            version(),
            stanza.described(),
            args.segments
        ));
        eprintln!("bench: pgbackrest archive-push");
        let theirs = peer::run(&world, &corpus, &archiver, stanza);
        theirs.present(&mut report, &ours.push);
        bars.push(bar("pgbackrest, one by one", &theirs.single));
        bars.push(bar("pgbackrest, behind a backlog", &theirs.backlog));
    }
    report.chart("call", "One call of archive_command, p50", "ms", &bars);
    for (ours, place) in [(&ours, "on disk"), (&without_disk, "in memory")] {
        let measured = ours.beyond(99.0);
        report.goal(
            &format!("push beyond copy and fsync, {place}: p99 < {}", human(GOAL)),
            &format!("{} (p50 {})", human(measured), human(ours.beyond(50.0))),
            measured < GOAL,
        );
    }
    let missed = report.finish(args.write);
    corpus.server().start_again();
    drop((corpus, world));
    std::process::exit(i32::from(missed > 0));
}

fn bar(name: &str, times: &Times) -> (String, f64) {
    (name.into(), times.percentile(50.0).as_secs_f64() * 1e3)
}

/// A row of the tables: its name, then p50, p90, p99 and the maximum.
fn row(name: &str, times: &Times) -> Vec<String> {
    std::iter::once(name.to_owned())
        .chain([50.0, 90.0, 99.0, 100.0].map(|percent| human(times.percentile(percent))))
        .collect()
}

/// The head of such a table.
const HEAD: [&str; 5] = ["", "p50", "p90", "p99", "max"];

fn introduce(report: &mut Report, args: &Args) {
    report.paragraph(&format!(
        "{} calls into each directory, one after the other, as PostgreSQL makes them: by the \
         shell, as user postgres, in the data folder, with real segments of 16 MiB that lie in \
         the page cache, as those do that were just written. Beside each call, taking turns in \
         the order, this process makes the same file with the same calls: open, copy (inside \
         the kernel), fsync, rename without replacing, fsync of the directory. *Beyond* is the \
         whole process of push, shell included, minus that copy; below zero counts as zero. A \
         disk's fsync differs from one to the next, and a difference of two has the noise of \
         both: one bare copy minus another shows how much that is, and a directory in memory, \
         where fsync is nothing, shows push without it. Each file that was handed over is \
         compared with its original, and removed before the next call.",
        args.calls,
    ));
}

fn file_system(folder: &Path) -> String {
    let stat = std::process::Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(folder)
        .output()
        .expect("ask for the file system's type");
    String::from_utf8_lossy(&stat.stdout).trim().to_owned()
}

/// An archive directory outside of the world's folder; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path) -> Folder {
        let path = parent.join(format!("walferry-bench-push-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap_or_else(|error| {
            panic!(
                "{}: {error}. HINT: --memory is a folder on a tmpfs",
                path.display()
            )
        });
        User::Postgres.own(&path, None);
        Folder(path)
    }
}

impl Drop for Folder {
    #[expect(
        clippy::disallowed_methods,
        reason = "a folder of the benchmark's own making"
    )]
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("could not remove {}: {error}", self.0.display());
        }
    }
}
