//! The servers that everybody uses, and what a contestant and they used.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use walferry_bench::Usage;
use walferry_bench::front::{Fronts, Link};
use walferry_tests::{Cloud, Kind, World};

/// Two clouds behind fronts, a catalog, Redis.
pub(crate) struct Field {
    pub(crate) world: World,
    pub(crate) fronts: Fronts,
    /// Where the clouds are reached, in the world's order.
    pub(crate) at: Vec<SocketAddr>,
}

/// What one contestant did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Its name in the table.
    pub(crate) name: String,
    /// From the first step to the last segment in both clouds.
    pub(crate) wall: Duration,
    /// Processor time of its own processes.
    pub(crate) cpu: Duration,
    /// The most memory of its own processes, in bytes.
    pub(crate) peak_rss: u64,
    /// Processor time of both S3 servers.
    pub(crate) clouds: Duration,
    /// Processor time of the fronts.
    pub(crate) fronts: Duration,
    /// Processor time of the catalog's server, with all its processes.
    pub(crate) catalog: Duration,
    /// Processor time of Redis.
    pub(crate) redis: Duration,
    /// Connections that were made to the clouds.
    pub(crate) connections: u64,
    /// Bytes in each cloud.
    pub(crate) stored: Vec<u64>,
    /// Where its time went: a stage, and seconds in it, all threads together.
    pub(crate) stages: Vec<(String, f64)>,
    /// What is to be said about its settings.
    pub(crate) remark: String,
}

/// What the contestant itself measures.
pub(crate) struct Own {
    pub(crate) wall: Duration,
    pub(crate) peak_rss: u64,
}

impl Field {
    pub(crate) fn new(link: Option<Link>) -> Field {
        let mut world = World::builder().clouds(Kind::S3s, Kind::S3s).build();
        let fronts = Fronts::new(world.folder());
        let at = fronts.before(&mut world, link);
        Field { world, fronts, at }
    }

    /// The clouds, each with where it is reached.
    pub(crate) fn clouds(&self) -> Vec<(&Cloud, SocketAddr)> {
        self.world.clouds().iter().zip(self.at.clone()).collect()
    }

    /// Runs a contestant, and measures everybody who has a part in it. All its processes have
    /// to end within `work`.
    pub(crate) fn measure(&mut self, name: &str, work: impl FnOnce(&mut Field) -> Own) -> Outcome {
        eprintln!("bench: {name}");
        let before = self.servers();
        let connections = self.fronts.connections();
        let children = Usage::of_children();
        let own = work(self);
        let cpu = Usage::of_children() - children;
        let after = self.servers();
        let used = |at: usize| after[at] - before[at];
        Outcome {
            name: name.into(),
            wall: own.wall,
            peak_rss: own.peak_rss,
            cpu,
            clouds: used(0),
            fronts: used(1),
            catalog: used(2),
            redis: used(3),
            connections: self.fronts.connections() - connections,
            ..Outcome::default()
        }
    }

    fn servers(&mut self) -> [Duration; 4] {
        let clouds = ["r2", "b2"]
            .into_iter()
            .map(|name| Usage::of(self.world.cloud_mut(name).server().id()).cpu)
            .sum();
        let catalog = self.world.catalog_mut().process().id();
        let redis = self.world.redis_mut().process().id();
        [
            clouds,
            self.fronts.cpu(),
            Usage::of_tree(catalog).cpu,
            Usage::of(redis).cpu,
        ]
    }
}

/// Runs `work` while the most resident memory of process `id` is watched; with its result.
pub(crate) fn watching<T>(id: u32, work: impl FnOnce() -> T) -> (T, u64) {
    let (stop, peak) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let watcher = std::thread::spawn({
        let (stop, peak) = (stop.clone(), peak.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                // The kernel keeps the peak: only what comes after the last look is missed.
                peak.fetch_max(Usage::of(id).peak_rss, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    });
    let result = work();
    stop.store(true, Ordering::Relaxed);
    watcher.join().expect("the watcher only looks");
    (result, peak.load(Ordering::Relaxed))
}

/// Runs a program to its end, as whoever runs this; what it printed.
pub(crate) fn run_program(
    name: &str,
    logs: &Path,
    command: &mut std::process::Command,
) -> (Own, String) {
    let began = Instant::now();
    let mut process = walferry_tests::Process::spawn(name, logs, command);
    let (wall, peak_rss) = watching(process.id(), || {
        process.wait_within(Duration::from_secs(1800));
        began.elapsed()
    });
    assert!(
        process.wait().success(),
        "{name} failed:\n{}",
        process.report(40)
    );
    (Own { wall, peak_rss }, process.stdout())
}
