//! walferry's side: a scheduler and a worker at their defaults.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use walferry_bench::corpus::Corpus;
use walferry_tests::{World, eventually, wait};

use crate::handover::{ALIKE, Plan};
use crate::watch::Watch;
use crate::{Field, Row};
use walferry_bench::check;

/// What was measured; the row with the goals comes first.
pub(crate) fn run(field: &Field, corpus: &Corpus, plan: &Plan) -> Vec<Row> {
    let world = &field.world;
    let (scheduler, worker) = (world.scheduler(), world.worker());
    let watch = Watch::start(&world.archive());
    let told = plan.hand_over(corpus, &world.push_command());
    eventually("every local file is deleted", || {
        let left = world.archived_files();
        wait::is(left.is_empty(), left)
    });
    eventually("inotify has told of every deletion", || {
        let seen = watch.seen();
        let gone = seen.values().filter(|life| life.gone.is_some()).count();
        wait::is(gone == corpus.segments().len(), gone)
    });
    let verified = verified(world);
    assert_eq!(
        verified.len(),
        corpus.segments().len(),
        "VERIFIED in the catalog"
    );
    for program in [worker, scheduler] {
        program.terminate();
        assert!(program.wait().success(), "{}", program.log());
    }
    let seen = watch.seen();
    let stored: HashMap<String, SystemTime> = corpus
        .segments()
        .iter()
        .map(|segment| {
            let key = format!("wal/{}.gz", segment.name);
            (segment.name.clone(), field.stored_at(&key))
        })
        .collect();
    check::check(corpus, world.clouds(), check::gz_below("wal/"), check::gz);
    plan.forget(corpus);
    let row = |name: &str, moments: &dyn Fn(&str) -> (SystemTime, SystemTime)| {
        plan.row(corpus, format!("walferry: {name}"), moments)
    };
    let gone = |name: &str| seen[name].gone.expect("it was awaited");
    vec![
        row("rename to VERIFIED", &|name| {
            (seen[name].renamed, verified[name])
        }),
        row("rename to deleted", &|name| {
            (seen[name].renamed, gone(name))
        }),
        row("ready to told", &|name| (told[name].ready, told[name].told)),
        row(ALIKE, &|name| (told[name].ready, stored[name])),
    ]
}

/// When each segment became VERIFIED, by the catalog's clock.
fn verified(world: &World) -> HashMap<String, SystemTime> {
    let sql = "SELECT name::text, (extract(epoch FROM verified_at) * 1000000)::bigint \
               FROM wal_files WHERE status = 'VERIFIED'";
    world
        .rows(sql)
        .into_iter()
        .map(|row| {
            let [Some(name), Some(micros)] = row.as_slice() else {
                panic!("a name and a moment awaited, got {row:?}");
            };
            let micros = micros.parse().expect("microseconds");
            (
                name.clone(),
                SystemTime::UNIX_EPOCH + Duration::from_micros(micros),
            )
        })
        .collect()
}
