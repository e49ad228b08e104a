//! pgBackRest's side: asynchronous, called when a segment is ready.

use std::collections::HashMap;
use std::time::SystemTime;

use walferry_bench::corpus::Corpus;
use walferry_bench::pgbackrest::{PgBackRest, Processes, Settings};

use crate::handover::{ALIKE, Plan};
use crate::{Field, Row};
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

pub(crate) fn run(
    field: &mut Field,
    corpus: &Corpus,
    plan: &Plan,
    stanza: &PgBackRest,
) -> Vec<Row> {
    // Its asynchronous processes make themselves daemons; they are ended before the next one.
    let processes = Processes::watch();
    let told = plan.hand_over(corpus, &stanza.archive_command());
    processes.await_end();
    drop(processes);
    let first = &field.world.clouds()[0];
    let stored: HashMap<String, SystemTime> = stanza
        .archived(first.bucket())
        .into_iter()
        .map(|(segment, key)| (segment, field.stored_at(&key)))
        .collect();
    let settings = stanza.settings();
    check::check(
        corpus,
        field.world.clouds(),
        |bucket| stanza.archived(bucket),
        settings.unpack(),
    );
    plan.forget(corpus);
    let name = settings.name();
    vec![
        plan.row(corpus, format!("{name}: ready to told"), |name| {
            (told[name].ready, told[name].told)
        }),
        plan.row(corpus, format!("{name}: {ALIKE}"), |name| {
            (told[name].ready, stored[name])
        }),
    ]
}
