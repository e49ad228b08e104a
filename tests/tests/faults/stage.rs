//! A world with everything short, in which one thing goes wrong.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use walferry_tests::proxy::Gate;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::world::Program;
use walferry_tests::world::place_file;
use walferry_tests::{Postgres, Wire, World, WorldBuilder, eventually};

/// The cluster whose segments are archived.
pub(crate) const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_050,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// How soon everything has to be VERIFIED once a fault is over, on a loaded machine.
pub(crate) const BOUND: Duration = Duration::from_secs(90);

/// Leases, back-off and silence, shortened by settings: a sweep of minutes instead of hours. The
/// promise of 15 s is shown with the defaults, by `workers::a_killed_workers_segment…`.
const SHORT: [(&str, &str); 14] = [
    ("queue.lease", "2s"),
    ("queue.renew", "500ms"),
    ("queue.poll", "100ms"),
    ("queue.retry_base", "200ms"),
    ("queue.retry_max", "1s"),
    ("archive.claim_lease", "2s"),
    ("archive.claim_renew", "500ms"),
    ("archive.retry_base", "200ms"),
    ("archive.retry_max", "2s"),
    ("archive.not_yet", "2s"),
    ("repositories.r2.idle_timeout", "2s"),
    ("repositories.r2.connect_timeout", "2s"),
    ("repositories.b2.idle_timeout", "2s"),
    ("repositories.b2.connect_timeout", "2s"),
];

/// A world, and the number of the next segment.
pub(crate) struct Stage {
    pub(crate) world: World,
    next: Arc<AtomicU64>,
    maker: Maker,
    fill: Fill,
    load: Option<Load>,
    /// What holds requests back, where a cell has one.
    pub(crate) gate: Option<Gate>,
    /// The catalog's server was stopped by a fault.
    pub(crate) catalog_is_down: bool,
    /// A protected server, where a cell has one.
    pub(crate) server: Option<Postgres>,
    /// A way to Redis or to the catalog that a cell cuts.
    pub(crate) wire: Option<Wire>,
    /// Workers and schedulers, in the order of their start.
    programs: Vec<Program>,
}

impl Stage {
    /// Two quick clouds and everything short.
    pub(crate) fn builder() -> WorldBuilder {
        SHORT
            .iter()
            .fold(World::builder().quick_clouds(), |builder, (name, value)| {
                builder.setting(name, value)
            })
    }

    pub(crate) fn new(builder: WorldBuilder) -> Stage {
        Stage {
            world: builder.build(),
            next: Arc::new(AtomicU64::new(1)),
            maker: MAKER,
            fill: Fill::Light,
            load: None,
            gate: None,
            catalog_is_down: false,
            server: None,
            wire: None,
            programs: Vec::new(),
        }
    }

    /// A scheduler and so many workers.
    pub(crate) fn start(&mut self, workers: usize) {
        let scheduler = self.world.start("scheduler", &[]);
        self.programs.push(scheduler);
        for _ in 0..workers {
            self.worker(&[]);
        }
    }

    /// One more worker, with settings of its own.
    pub(crate) fn worker(&mut self, settings: &[(&str, &str)]) -> Program {
        let worker = self.world.start("worker", settings);
        self.programs.push(worker.clone());
        worker
    }

    /// Remembers a program that was started otherwise, for its log.
    pub(crate) fn knows(&mut self, program: &Program) {
        self.programs.push(program.clone());
    }

    /// The first worker that runs.
    pub(crate) fn running_worker(&self) -> &Program {
        self.programs
            .iter()
            .find(|program| program.name().starts_with("worker") && program.running())
            .expect("a worker runs")
    }

    /// The worker that was started last.
    pub(crate) fn last_worker(&self) -> &Program {
        let workers = self.programs.iter().rev();
        workers
            .into_iter()
            .find(|program| program.name().starts_with("worker"))
            .expect("a worker was started")
    }

    /// Every program so far, in the order of their start: the scheduler is the first.
    pub(crate) fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// What all programs logged.
    pub(crate) fn logs(&self) -> Vec<String> {
        self.programs.iter().map(Program::log).collect()
    }

    /// Waits until what dead workers held is nobody's any more, in queue and catalog.
    pub(crate) fn await_nothing_claimed(&self) {
        eventually("what was claimed is settled", || {
            self.world.leftover_claims().map_or(Ok(()), Err)
        });
    }

    /// What `walferry check` found.
    pub(crate) fn findings(&self) -> Vec<serde_json::Value> {
        let shown = self.world.cli(&["--json", "check"]);
        let parsed: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
        parsed["findings"].as_array().cloned().unwrap_or_default()
    }

    /// The name of the next segment; nobody else gets it.
    pub(crate) fn next(&self) -> (String, Vec<u8>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.again(number)
    }

    /// Name and bytes of a segment that was made before.
    pub(crate) fn again(&self, number: u64) -> (String, Vec<u8>) {
        (self.maker.name(number), self.maker.bytes(number, self.fill))
    }

    /// Segments of another size and content, before the first is handed over.
    pub(crate) fn make(&mut self, segment_size: u32, fill: Fill) {
        self.maker = MAKER.segment_size(segment_size);
        self.fill = fill;
    }

    /// Hands over so many segments and says which.
    pub(crate) fn hand_over(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                let (name, bytes) = self.next();
                self.world.hand_over(&name, &bytes);
                name
            })
            .collect()
    }

    /// From now on somebody else hands over segments without a pause, as on a busy server.
    pub(crate) fn start_load(&mut self) {
        if self.load.is_none() {
            self.load = Some(Load::start(
                self.world.archive(),
                self.maker,
                Arc::clone(&self.next),
            ));
        }
    }

    /// Ends the load; what it has handed over is expected like everything else.
    pub(crate) fn end_load(&mut self) {
        if let Some(load) = self.load.take() {
            for number in load.end() {
                let bytes = self.maker.bytes(number, Fill::Light);
                self.world
                    .originals_mut()
                    .remember(&self.maker.name(number), &bytes);
            }
        }
    }
}

/// A thread that hands over ten segments a second.
struct Load {
    stop: Arc<AtomicBool>,
    given: Arc<Mutex<Vec<u64>>>,
    thread: JoinHandle<()>,
}

impl Load {
    fn start(directory: PathBuf, maker: Maker, next: Arc<AtomicU64>) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let given = Arc::new(Mutex::new(Vec::new()));
        let (stopped, log) = (Arc::clone(&stop), Arc::clone(&given));
        let thread = std::thread::spawn(move || {
            // Ten MiB a second: ten segments of a test's usual size.
            let pace = Duration::from_millis(100) * (maker.segment_size >> 20);
            let mut number = None;
            while !stopped.load(Ordering::Relaxed) {
                let current = *number.get_or_insert_with(|| next.fetch_add(1, Ordering::Relaxed));
                let (name, bytes) = (maker.name(current), maker.bytes(current, Fill::Light));
                // A directory that is full, read-only or away takes nothing: PostgreSQL would
                // keep the segment and try again.
                if place_file(&directory, &name, &bytes).is_ok() {
                    log.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(current);
                    number = None;
                }
                std::thread::sleep(pace);
            }
        });
        Load {
            stop,
            given,
            thread,
        }
    }

    fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load ends");
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.clone()
    }
}
