//! One level of load: hand over at a steady rate, watch, drain, count.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use walferry_bench::statistics::Times;
use walferry_queue::Queue;
use walferry_tests::World;

use crate::servers::{Look, look};
use crate::site::Site;
use crate::worker::{follow_up, tick};

/// How the load is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    /// Segments a second, all clusters together.
    pub(crate) rate: f64,
    pub(crate) time: Duration,
    /// How often the scheduler enqueues its job; it does at the beginning too.
    pub(crate) tick: Duration,
    /// How long the drain may take.
    pub(crate) patience: Duration,
}

/// What a level showed.
pub(crate) struct Outcome {
    pub(crate) rate: f64,
    pub(crate) handed: u64,
    pub(crate) jobs: u64,
    pub(crate) failed: u64,
    pub(crate) lags: Times,
    /// Handed over and not VERIFIED, at the end of the load.
    pub(crate) left: u64,
    /// From the end of the load until all were VERIFIED.
    pub(crate) drain: Duration,
    pub(crate) before: Look,
    pub(crate) after: Look,
    /// Of the load, without the drain.
    pub(crate) wall: Duration,
    /// Segments that became VERIFIED within it.
    pub(crate) done: u64,
    pub(crate) depth: Vec<Depth>,
}

/// The queue and the backlog at one moment of the load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Depth {
    pub(crate) at: Duration,
    pub(crate) ready: u64,
    pub(crate) leased: u64,
    pub(crate) outstanding: u64,
}

/// Applies `level`; `watches` are the workers' queues, each of which hears of every file.
///
/// # Panics
/// When segments are lost or done twice, or the drain takes longer than `level.patience`.
pub(crate) fn run(
    world: &mut World,
    runtime: &Runtime,
    site: &Arc<Site>,
    watches: &[Queue],
    level: &Level,
) -> Outcome {
    let counts = &site.counts;
    let (jobs, failed) = (counts.jobs.load(Relaxed), counts.failed.load(Relaxed));
    let (handed, verified) = (counts.handed.load(Relaxed), counts.verified.load(Relaxed));
    site.take_lags();
    let before = look(world);
    let began = Instant::now();
    let producer = runtime.spawn(produce(Arc::clone(site), watches.to_vec(), *level, began));
    let mut depth = Vec::new();
    while began.elapsed() < level.time {
        std::thread::sleep(Duration::from_secs(1).min(level.time.saturating_sub(began.elapsed())));
        let stats = runtime.block_on(watches[0].stats()).expect("Redis answers");
        depth.push(Depth {
            at: began.elapsed(),
            ready: stats.ready,
            leased: stats.leased,
            outstanding: site.outstanding(),
        });
    }
    runtime.block_on(producer).expect("the load does not panic");
    let (after, wall) = (look(world), began.elapsed());
    let (left, done) = (site.outstanding(), counts.verified.load(Relaxed) - verified);
    let ended = Instant::now();
    while site.outstanding() > 0 || runtime.block_on(busy(&watches[0])) {
        assert!(
            ended.elapsed() < level.patience,
            "{} segments are not VERIFIED {} s after the load has ended",
            site.outstanding(),
            level.patience.as_secs()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let drain = ended.elapsed();
    let outcome = Outcome {
        rate: level.rate,
        handed: counts.handed.load(Relaxed) - handed,
        jobs: counts.jobs.load(Relaxed) - jobs,
        failed: counts.failed.load(Relaxed) - failed,
        lags: site.take_lags(),
        left,
        drain,
        before,
        after,
        wall,
        done,
        depth,
    };
    count(world, site, &outcome);
    outcome
}

/// Whether a job runs or could.
async fn busy(queue: &Queue) -> bool {
    let stats = queue.stats().await.expect("Redis answers");
    stats.ready + stats.leased > 0
}

async fn produce(site: Arc<Site>, watches: Vec<Queue>, level: Level, began: Instant) {
    let mut sent = 0_u32;
    let mut slot = 0_u32;
    loop {
        if level.tick * slot <= began.elapsed() {
            let now = chrono::Utc::now().timestamp_millis().unsigned_abs();
            watches[0]
                .enqueue(tick(now))
                .await
                .expect("Redis takes the tick");
            slot += 1;
        }
        let due = Duration::from_secs_f64(f64::from(sent) / level.rate);
        if due >= level.time {
            return;
        }
        let moment = began + due;
        tokio::time::sleep_until((moment.min(began + level.tick * slot)).into()).await;
        if Instant::now() < moment {
            continue;
        }
        // Clusters in turn: each hands over at even intervals, no two at the same moment.
        let at = sent as usize % site.clusters.len();
        site.hand_over(at, moment);
        sent += 1;
        let name = site.clusters[at].name.clone();
        for watch in watches.clone() {
            let (name, site) = (name.clone(), Arc::clone(&site));
            tokio::spawn(async move {
                // The tick comes anyway, as for a real watch whose enqueue failed.
                if watch
                    .enqueue(follow_up(&name, 1, Duration::ZERO))
                    .await
                    .is_err()
                {
                    site.counts.failed.fetch_add(1, Relaxed);
                }
            });
        }
    }
}

/// Every segment once: by the workers' count and by the catalog's.
fn count(world: &World, site: &Site, outcome: &Outcome) {
    let counts = &site.counts;
    let handed = counts.handed.load(Relaxed);
    assert_eq!(
        counts.verified.load(Relaxed),
        handed,
        "handed over, and VERIFIED"
    );
    assert_eq!(counts.twice.load(Relaxed), 0, "segments were done twice");
    let awaited = i64::try_from(handed).expect("some millions at most");
    let rows = |sql: &str| world.number(&format!("SELECT count(*) FROM {sql}"));
    assert_eq!(
        rows("wal_files WHERE status = 'VERIFIED'"),
        awaited,
        "rows that are VERIFIED"
    );
    assert_eq!(rows("wal_files"), awaited, "rows of files");
    assert_eq!(
        rows("copies WHERE state = 'verified'"),
        2 * awaited,
        "verified copies"
    );
    assert_eq!(
        outcome.lags.len() as u64,
        outcome.handed,
        "lags of this level"
    );
}
