//! pgBackRest, called as PostgreSQL calls it when it has segments to hand over.

use std::path::Path;
use std::time::Instant;

use walferry_bench::corpus::Corpus;
use walferry_bench::pgbackrest::{PgBackRest, Processes, Settings};
use walferry_tests::User;

use crate::field::{Field, Outcome, Own};
use walferry_bench::check;

/// A stanza that compresses so; the corpus's server has to run.
pub(crate) fn stanza(field: &Field, corpus: &mut Corpus, kind: &str, level: u8) -> PgBackRest {
    PgBackRest::new(
        &format!("{kind}{level}"),
        field.world.folder(),
        Settings::new(kind, level),
        corpus.server(),
        &field.clouds(),
        &field.fronts.ca(),
    )
}

pub(crate) fn run(field: &mut Field, corpus: &mut Corpus, stanza: &PgBackRest) -> Outcome {
    let pg_wal = corpus.server().pg_wal();
    let status = pg_wal.join("archive_status");
    for segment in corpus.segments() {
        segment.place(&pg_wal);
        let ready = status.join(format!("{}.ready", segment.name));
        std::fs::write(&ready, "").expect("say that a segment is ready");
        User::Postgres.own(&ready, None);
    }
    let settings = stanza.settings();
    let name = settings.name();
    let mut outcome = field.measure(&name, |_| {
        let processes = Processes::watch();
        let began = Instant::now();
        for segment in corpus.segments() {
            stanza.archive_push(&segment.name).ok();
            done(&status, &segment.name);
        }
        let wall = began.elapsed();
        processes.await_end();
        Own {
            wall,
            peak_rss: processes.peak_rss(),
        }
    });
    for segment in corpus.segments() {
        remove(&pg_wal.join(&segment.name));
        remove(&status.join(format!("{}.done", segment.name)));
    }
    outcome.stored = check::check(
        corpus,
        field.world.clouds(),
        |bucket| stanza.archived(bucket),
        settings.unpack(),
    );
    outcome.remark = stanza.described();
    outcome
}

/// What PostgreSQL does when its command succeeded.
#[expect(
    clippy::disallowed_methods,
    reason = "the benchmark plays PostgreSQL's part"
)]
fn done(status: &Path, name: &str) {
    std::fs::rename(
        status.join(format!("{name}.ready")),
        status.join(format!("{name}.done")),
    )
    .unwrap_or_else(|error| panic!("{name} is done: {error}"));
}

#[expect(
    clippy::disallowed_methods,
    reason = "files of the benchmark's own making"
)]
fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
}
