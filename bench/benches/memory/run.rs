//! One worker in a world of its own, looked at while it works.

use std::time::{Duration, Instant};

use walferry_bench::Usage;
use walferry_bench::corpus::Segment;
use walferry_bench::drain;
use walferry_bench::front::{Fronts, Link};
use walferry_tests::world::Program;
use walferry_tests::{Bucket, Kind, World};

/// How often its memory is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// How often the worker is asked how many copies it made, in looks: asking takes memory too.
const ASK_EVERY: usize = 10;

/// Longer than the slowest run takes.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Below so many segments there is no early and no late.
const ENOUGH: usize = 40;

/// A run before it begins.
pub(crate) struct Run {
    name: String,
    threads: u64,
    // Fields are dropped in this order: the worker ends before what it talks to.
    world: World,
    fronts: Fronts,
}

/// What a run found.
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) threads: u64,
    pub(crate) segments: usize,
    pub(crate) wall: Duration,
    /// VmHWM in bytes.
    pub(crate) peak: u64,
    /// The mean of resident bytes while the segments around a tenth were archived.
    pub(crate) early: Option<f64>,
    /// The same for the last twentieth.
    pub(crate) late: Option<f64>,
}

/// One look: how many segments were archived, and resident bytes.
type Look = (usize, u64);

impl Run {
    /// Two clouds behind TLS; `variables` are for the worker.
    pub(crate) fn new(name: &str, threads: u64, variables: &[(String, String)]) -> Run {
        eprintln!("bench: {name}");
        let mut world = World::builder().clouds(Kind::S3s, Kind::S3s).build();
        let fronts = Fronts::new(world.folder());
        fronts.before(&mut world, None);
        world.set("worker.pack_threads", &threads.to_string());
        for (name, value) in variables {
            world.set_variable(name, value);
        }
        Run {
            name: name.into(),
            threads,
            world,
            fronts,
        }
    }

    /// Puts a link of so many bytes per second in front of b2.
    pub(crate) fn narrow(&mut self, rate: u64) {
        let tls = self.fronts.tls(self.world.cloud("b2").bucket().address());
        let link = Link {
            up: Some(rate),
            ..Link::default()
        };
        let slow = self.fronts.link(tls, link);
        let variable = "BACKBLAZE_B2_ENDPOINT_URL";
        self.world
            .set_variable(variable, &format!("https://{slow}"));
    }

    /// Until everything is VERIFIED in both clouds and deleted locally; proves it.
    pub(crate) fn drain(self, segments: &[Segment]) -> Outcome {
        let archive = self.world.archive();
        let archived = |_: &Program| segments.len() - drain::left(&archive);
        let (outcome, worker) = self.watch(segments, 1, archived);
        drain::end(&[worker]);
        drain::prove(&self.world, segments);
        outcome
    }

    /// Until r2 has everything; compares that, and what b2 has, and tells how much that is.
    pub(crate) fn drain_fast(self, segments: &[Segment]) -> (Outcome, usize) {
        let copies = |worker: &Program| copies(worker, "r2");
        let (outcome, worker) = self.watch(segments, ASK_EVERY, copies);
        drain::end(&[worker]);
        let [r2, b2] = ["r2", "b2"].map(|cloud| self.world.cloud(cloud).bucket());
        let names = drain::names(r2);
        assert_eq!(names.len(), segments.len(), "segments in r2");
        drain::compare(segments, &[r2]);
        let slow = drain::names(b2);
        let there: Vec<Segment> = segments
            .iter()
            .filter(|segment| slow.contains(&segment.name))
            .cloned()
            .collect();
        assert_eq!(there.len(), slow.len(), "b2 holds something else");
        drain::compare(&there, &[b2 as &Bucket]);
        let verified = "SELECT count(*) FROM wal_files WHERE status = 'VERIFIED'";
        let verified = usize::try_from(self.world.number(verified)).expect("a count");
        assert!(
            verified <= there.len()
                && segments.len() - verified >= drain::left(&self.world.archive()),
            "{verified} VERIFIED, {} in b2",
            there.len()
        );
        (outcome, there.len())
    }

    /// Starts a worker on a full directory and looks at it until `archived` says all.
    fn watch(
        &self,
        segments: &[Segment],
        ask_every: usize,
        archived: impl Fn(&Program) -> usize,
    ) -> (Outcome, Program) {
        drain::fill(&self.world, segments);
        let began = Instant::now();
        let worker = self.world.worker();
        let id = worker.process().id();
        let mut looks: Vec<Look> = Vec::new();
        let mut done = 0;
        while done < segments.len() {
            if looks.len().is_multiple_of(ask_every) {
                done = archived(&worker);
            }
            looks.push((done, Usage::of(id).rss));
            assert!(worker.running(), "it ended:\n{}", worker.log());
            assert!(
                began.elapsed() < PATIENCE,
                "{done} of {} archived:\n{}",
                segments.len(),
                worker.log()
            );
            std::thread::sleep(LOOK);
        }
        let wall = began.elapsed();
        let all = segments.len();
        let [early, late] = [
            (all / 10 - all / 40, all / 10 + all / 40),
            (all - all / 20, all),
        ]
        .map(|(from, to)| (all >= ENOUGH).then(|| mean(&looks, from, to)).flatten());
        let outcome = Outcome {
            name: self.name.clone(),
            threads: self.threads,
            segments: all,
            wall,
            peak: Usage::of(id).peak_rss,
            early,
            late,
        };
        (outcome, worker)
    }
}

/// How many copies it made in a repository.
fn copies(worker: &Program, repository: &str) -> usize {
    let repository = format!("repository=\"{repository}\"");
    let copies = drain::metric(
        std::slice::from_ref(worker),
        "walferry_uploads_total",
        &[&repository, "outcome=\"success\""],
    );
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    let copies = copies as usize;
    copies
}

/// The mean of resident bytes while so many were archived; `None` without a look.
fn mean(looks: &[Look], from: usize, to: usize) -> Option<f64> {
    let within: Vec<u64> = looks
        .iter()
        .filter(|(archived, _)| (from..=to).contains(archived))
        .map(|(_, rss)| *rss)
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "megabytes with one digit")]
    let mean = within.iter().sum::<u64>() as f64 / within.len() as f64;
    (!within.is_empty()).then_some(mean)
}
