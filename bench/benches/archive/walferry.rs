//! walferry: one worker at its defaults, started with everything in its directory.

use std::time::Duration;

use walferry_bench::Usage;
use walferry_bench::corpus::Corpus;
use walferry_tests::{eventually_within, wait};

use crate::field::{Field, Outcome, Own, watching};
use walferry_bench::check;

/// The name of its row, which is the first one.
pub(crate) const NAME: &str = "walferry";

/// Longer than the slowest of the others takes.
const PATIENCE: Duration = Duration::from_secs(900);

pub(crate) fn run(field: &mut Field, corpus: &Corpus) -> Outcome {
    let world = &field.world;
    for segment in corpus.segments() {
        segment.place(&world.archive());
    }
    let wanted = i64::try_from(corpus.segments().len()).expect("a few hundred");
    let mut stages = Vec::new();
    let mut outcome = field.measure(NAME, |field| {
        let world = &field.world;
        let clock = chrono::Utc::now();
        let worker = world.start("worker", &[]);
        let id = worker.process().id();
        let ((), peak_rss) = watching(id, || {
            // Only what is VERIFIED is deleted; asking the catalog would cost it time.
            eventually_within(PATIENCE, "every local file is deleted", || {
                assert!(worker.running(), "it ended:\n{}", worker.log());
                let left = world.archived_files();
                wait::is(left.is_empty(), left)
            });
        });
        let verified = "SELECT count(*) FROM wal_files WHERE status = 'VERIFIED'";
        assert_eq!(world.number(verified), wanted, "VERIFIED in the catalog");
        stages = threads_of(id);
        stages.extend(stages_of(&worker.http("/metrics").expect("metrics").1));
        worker.terminate();
        assert!(worker.wait().success(), "{}", worker.log());
        // The catalog wrote down when, with the clock of this machine.
        let last = "SELECT extract(epoch FROM max(verified_at)) * 1000000 FROM wal_files";
        let last = world.rows(last)[0][0].clone().expect("a moment");
        let last: f64 = last.parse().expect("a number");
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds since 1970 are exact until 2255"
        )]
        let wall = Duration::from_secs_f64((last - clock.timestamp_micros() as f64) / 1e6);
        Own { wall, peak_rss }
    });
    outcome.stored = check::check(
        corpus,
        field.world.clouds(),
        check::gz_below("wal/"),
        check::gz,
    );
    outcome.stages = stages;
    outcome.remark = format!("one worker, most segments at level {}", level(field));
    outcome
}

/// The level that most segments were packed at.
pub(crate) fn level(field: &Field) -> i64 {
    let most = "SELECT mode() WITHIN GROUP (ORDER BY level) FROM wal_files";
    field.world.number(most)
}

/// Processor time of those threads that read, hash and compress, and of all others.
fn threads_of(id: u32) -> Vec<(String, f64)> {
    let (pack, others): (Vec<_>, Vec<_>) = Usage::of_threads(id)
        .into_iter()
        .partition(|(name, _)| name.starts_with("pack-"));
    let sum = |threads: Vec<(String, Duration)>| -> f64 {
        threads.iter().map(|(_, used)| used.as_secs_f64()).sum()
    };
    vec![
        (
            "CPU of the packing threads (read, hash, compress, MD5)".into(),
            sum(pack),
        ),
        (
            "CPU of the others (queue, catalog, directory, TLS, requests)".into(),
            sum(others),
        ),
    ]
}

/// Seconds by stage, as its metrics have them, all segments together: requests by kind, and
/// whatever stages it measures.
fn stages_of(metrics: &str) -> Vec<(String, f64)> {
    let mut stages: Vec<(String, f64)> = Vec::new();
    for line in metrics.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let label = |name: &str| {
            let (_, rest) = series.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let stage = if series.starts_with("walferry_repository_request_seconds_sum") {
            label("operation")
                .zip(label("repository"))
                .map(|(operation, repository)| format!("{operation} {repository}"))
        } else if series.starts_with("walferry_segment_stage_seconds_sum") {
            label("stage")
        } else if series.starts_with("walferry_segment_duration_seconds_sum") {
            Some("from claim to completion".to_owned())
        } else {
            None
        };
        let (Some(stage), Ok(seconds)) = (stage, value.parse::<f64>()) else {
            continue;
        };
        match stages.iter_mut().find(|(known, _)| *known == stage) {
            Some((_, sum)) => *sum += seconds,
            None => stages.push((stage, seconds)),
        }
    }
    stages.sort_by(|one, other| other.1.total_cmp(&one.1));
    stages
}
