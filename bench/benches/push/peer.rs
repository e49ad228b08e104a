//! `pgbackrest archive-push`, asynchronous: one segment at a time with its queue drained, and
//! with all segments waiting, so that most calls find their segment archived already.

use std::net::SocketAddr;
use std::time::Duration;

use walferry_bench::Report;
use walferry_bench::archiver::{Archiver, remove};
use walferry_bench::corpus::Corpus;
use walferry_bench::front::Fronts;
use walferry_bench::pgbackrest::{PgBackRest, Processes, STANZA, Settings};
use walferry_bench::statistics::Times;
use walferry_tests::World;

use crate::{HEAD, row};
use walferry_bench::check;

/// What was measured.
pub(crate) struct Theirs {
    /// Each call with nothing else waiting.
    pub(crate) single: Times,
    /// Each call while the others wait.
    pub(crate) backlog: Times,
}

/// A stanza at its fastest: zst 3.
pub(crate) fn stanza(
    world: &World,
    fronts: &Fronts,
    at: &[SocketAddr],
    corpus: &mut Corpus,
) -> PgBackRest {
    let clouds: Vec<_> = world.clouds().iter().zip(at.iter().copied()).collect();
    PgBackRest::new(
        "zst3",
        world.folder(),
        Settings::new("zst", 3),
        corpus.server(),
        &clouds,
        &fronts.ca(),
    )
}

pub(crate) fn run(
    world: &World,
    corpus: &Corpus,
    archiver: &Archiver,
    stanza: &PgBackRest,
) -> Theirs {
    // Its asynchronous processes make themselves daemons; they have ended before the next part.
    let processes = Processes::watch();
    let command = stanza.archive_command();
    let call = |name: &str| -> Duration {
        let took = archiver.call(&command, name);
        archiver.done(name);
        took
    };
    let archived = || {
        processes.await_end();
        check::check(
            corpus,
            world.clouds(),
            |bucket| stanza.archived(bucket),
            check::zst,
        );
        for segment in corpus.segments() {
            archiver.forget(&segment.name);
        }
        // It remembers the last ones until it is called for the next; PostgreSQL would never
        // hand over the same again, and here it would be told that they are archived.
        let remembered = stanza
            .folder()
            .join("spool/archive")
            .join(STANZA)
            .join("out");
        let files = std::fs::read_dir(&remembered).expect("its spool has this folder");
        let names: Vec<_> = files
            .map(|file| file.expect("it can be listed").file_name())
            .collect();
        names.iter().for_each(|name| remove(&remembered.join(name)));
    };
    let segments = corpus.segments();
    let one_by_one = |name: &str| {
        archiver.ready(name);
        call(name)
    };
    let single = segments.iter().map(|one| one_by_one(&one.name)).collect();
    archived();
    for segment in segments {
        archiver.ready(&segment.name);
    }
    let backlog = segments.iter().map(|one| call(&one.name)).collect();
    archived();
    Theirs { single, backlog }
}

impl Theirs {
    pub(crate) fn present(&self, report: &mut Report, push: &Times) {
        report.table(
            &HEAD,
            &[
                row("walferry push, from above", push),
                row("pgbackrest, one by one", &self.single),
                row("pgbackrest, behind a backlog", &self.backlog),
            ],
        );
        let ratio = |theirs: &Times, percent| {
            theirs.percentile(percent).as_secs_f64() / push.percentile(percent).as_secs_f64()
        };
        report.paragraph(&format!(
            "pgbackrest's calls take {:.2} times as long one by one at p50 ({:.2} at p99), and \
             {:.2} times behind a backlog ({:.2} at p99). They do another thing: pgBackRest's \
             call ends when the segment is in both repositories, push's when it is durable in \
             the directory.",
            ratio(&self.single, 50.0),
            ratio(&self.single, 99.0),
            ratio(&self.backlog, 50.0),
            ratio(&self.backlog, 99.0),
        ));
    }
}
