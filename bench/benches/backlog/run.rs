//! One drain in a world of its own.

use std::time::{Duration, Instant};

use walferry_bench::Usage;
use walferry_bench::corpus::Segment;
use walferry_bench::drain;
use walferry_bench::front::{Fronts, Link};
use walferry_tests::world::Program;
use walferry_tests::{Kind, World};

/// When `status` is asked, in percent done.
const ASKED_AT: [usize; 3] = [10, 50, 90];

/// Longer than the slowest drain takes.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What a drain found.
pub(crate) struct Outcome {
    pub(crate) workers: usize,
    pub(crate) segments: usize,
    pub(crate) wall: Duration,
    /// Processor time of the workers.
    pub(crate) cpu: Duration,
    /// Mean time from the claim of a segment to its completion.
    pub(crate) each: Duration,
    /// Bytes in each cloud.
    pub(crate) stored: Vec<u64>,
    pub(crate) forecasts: Vec<Forecast>,
    /// Repository and operation, how many per segment, and how long one takes in the mean.
    pub(crate) requests: Vec<(String, f64, Duration)>,
}

/// What `walferry status --json` foretold.
pub(crate) struct Forecast {
    /// How much was done.
    pub(crate) percent: usize,
    /// Since the start.
    pub(crate) at: Duration,
    /// How long it still takes, if it said so.
    pub(crate) eta: Option<Duration>,
}

impl Outcome {
    /// Segments per second.
    pub(crate) fn speed(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few hundred segments")]
        let segments = self.segments as f64;
        segments / self.wall.as_secs_f64()
    }
}

impl Forecast {
    /// In percent of what it really took; more than 0 is too long.
    pub(crate) fn error(&self, eta: Duration, wall: Duration) -> f64 {
        (eta.as_secs_f64() / (wall - self.at).as_secs_f64() - 1.0) * 100.0
    }
}

/// Drains the segments with so many workers, and proves that they did.
pub(crate) fn drain(
    segments: &[Segment],
    workers: usize,
    round_trip: Duration,
    settings: &[(String, String)],
) -> Outcome {
    eprintln!("bench: {workers} workers, {} ms", round_trip.as_millis());
    let mut world = World::builder().clouds(Kind::S3s, Kind::S3s).build();
    let fronts = Fronts::new(world.folder());
    let link = Link {
        round_trip,
        ..Link::default()
    };
    fronts.before(&mut world, (!round_trip.is_zero()).then_some(link));
    for (name, value) in settings {
        world.set(name, value);
    }
    drain::fill(&world, segments);
    let archive = world.archive();
    let began = Instant::now();
    let programs: Vec<Program> = (0..workers).map(|_| world.start("worker", &[])).collect();
    let mut forecasts: Vec<Forecast> = Vec::new();
    loop {
        let left = drain::left(&archive);
        if left == 0 {
            break;
        }
        let done = (segments.len() - left) * 100 / segments.len();
        if let Some(percent) = ASKED_AT.get(forecasts.len()).filter(|at| done >= **at) {
            forecasts.push(forecast(&world, *percent, began));
        }
        for program in &programs {
            assert!(program.running(), "it ended:\n{}", program.log());
        }
        assert!(began.elapsed() < PATIENCE, "{left} files are left");
        std::thread::sleep(Duration::from_millis(50));
    }
    let wall = began.elapsed();
    assert_eq!(forecasts.len(), ASKED_AT.len(), "it was too quick to ask");
    let cpu = programs
        .iter()
        .map(|program| Usage::of(program.process().id()).cpu)
        .sum();
    let each = mean(&programs, "walferry_segment_duration_seconds", &[]).1;
    let requests = requests(&programs, segments.len());
    drain::end(&programs);
    let stored = drain::prove(&world, segments);
    drop((programs, world));
    Outcome {
        workers,
        segments: segments.len(),
        wall,
        cpu,
        each,
        stored,
        forecasts,
        requests,
    }
}

fn forecast(world: &World, percent: usize, began: Instant) -> Forecast {
    let status = world.cli(&["--json", "status"]).json();
    let eta = &status["clusters"][0]["eta_seconds"];
    Forecast {
        percent,
        // When it answered: what it counted is at most as old as the command took.
        at: began.elapsed(),
        eta: eta.as_u64().map(Duration::from_secs),
    }
}

/// The requests of each kind, those that were made.
fn requests(programs: &[Program], segments: usize) -> Vec<(String, f64, Duration)> {
    let mut found = Vec::new();
    for repository in ["r2", "b2"] {
        for operation in operations(programs) {
            let labels = [
                format!("repository=\"{repository}\""),
                format!("operation=\"{operation}\""),
            ];
            let labels = [labels[0].as_str(), labels[1].as_str()];
            let (count, time) = mean(programs, "walferry_repository_request_seconds", &labels);
            if count > 0.0 {
                #[expect(clippy::cast_precision_loss, reason = "a few hundred segments")]
                let each = count / segments as f64;
                found.push((format!("{operation} {repository}"), each, time));
            }
        }
    }
    found
}

/// The operations that any worker has counted.
fn operations(programs: &[Program]) -> std::collections::BTreeSet<String> {
    let operation = |line: &str| {
        let rest = line.strip_prefix("walferry_repository_request_seconds_count")?;
        let (_, rest) = rest.split_once("operation=\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let page = |program: &Program| program.http("/metrics").expect("metrics").1;
    programs
        .iter()
        .flat_map(|program| {
            page(program)
                .lines()
                .filter_map(operation)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// How many a histogram has counted, and their mean.
fn mean(programs: &[Program], histogram: &str, labels: &[&str]) -> (f64, Duration) {
    let of = |what: &str| drain::metric(programs, &format!("{histogram}_{what}"), labels);
    let (count, sum) = (of("count"), of("sum"));
    let mean = if count > 0.0 { sum / count } else { 0.0 };
    (count, Duration::from_secs_f64(mean))
}
