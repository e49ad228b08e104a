//! A thousand clusters' load on the real queue and the real catalog, by simulated workers, and
//! what a number of clusters needs: `docs/scaling.md`.

mod ceiling;
mod leases;
mod load;
mod needs;
mod print;
mod process;
mod product;
mod servers;
mod settings;
mod site;
mod worker;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use walferry_bench::Report;
use walferry_bench::needs::Measured;
use walferry_catalog::{Catalog, CatalogSettings};
use walferry_queue::{
    Consumer, ConsumerHealth, NewJob, Queue, QueueName, QueueSettings, RedisSettings,
    WorkerIdentity,
};
use walferry_tests::World;

use crate::load::{Level, Outcome};
use crate::product::Costs;
use crate::settings::Settings;
use crate::site::Site;
use crate::worker::Worker;

/// What one number of clusters showed.
pub(crate) struct Stage {
    pub(crate) clusters: usize,
    /// Versions and settings.
    pub(crate) servers: String,
    /// One job of the scheduler with nothing to do.
    pub(crate) tick: Tick,
    /// What took most of the catalog's time at the clusters' own rate.
    pub(crate) statements: Vec<Vec<String>>,
    pub(crate) real: Outcome,
    pub(crate) raised: Vec<Outcome>,
    /// Bytes of the catalog for one segment.
    pub(crate) catalog_bytes: f64,
    pub(crate) job_bytes: f64,
}

/// The scheduler's job while nothing waits.
pub(crate) struct Tick {
    pub(crate) took: Duration,
    pub(crate) catalog: Duration,
    pub(crate) commits: i64,
}

fn main() {
    let settings = Settings::parse();
    let mut report = Report::new("scale", "A thousand clusters, by simulation");
    let costs = product::measure(settings.transactions, settings.switches);
    let pack = settings.pack_ms.map_or(
        Duration::from_secs_f64(costs.light.cpu),
        Duration::from_millis,
    );
    let mut stages = Vec::new();
    for (at, &clusters) in settings.clusters.iter().enumerate() {
        let last = at + 1 == settings.clusters.len();
        stages.push(stage(&settings, clusters, pack, last));
    }
    let Some(largest) = stages.last() else {
        panic!("--clusters names no number");
    };
    let measured = measured(&costs, largest);
    print::report(&mut report, &settings, &costs, pack, &stages);
    let needs = needs::block(&settings, &measured);
    report.paragraph(&needs);
    if settings.write {
        let page = walferry_tests::environment::repository().join("docs/scaling.md");
        walferry_bench::report::write_section(&page, "scale-needs", &needs);
    }
    std::process::exit(i32::from(report.finish(settings.write) > 0));
}

#[expect(clippy::cast_precision_loss, reason = "some millions at most")]
fn measured(costs: &Costs, largest: &Stage) -> Measured {
    let (real, done) = (&largest.real, largest.real.done.max(1) as f64);
    Measured {
        full: costs.full,
        light: costs.light,
        r2: costs.r2,
        b2: costs.b2,
        catalog_bytes: largest.catalog_bytes,
        catalog_cpu: (real.after.catalog - real.before.catalog).as_secs_f64() / done,
        redis_cpu: (real.after.redis - real.before.redis).as_secs_f64() / done,
        job_bytes: largest.job_bytes,
    }
}

/// One number of clusters on servers of its own.
fn stage(settings: &Settings, clusters: usize, pack: Duration, last: bool) -> Stage {
    eprintln!("scale: {clusters} clusters");
    let mut world = World::builder().no_clouds().build();
    servers::prepare(&mut world);
    let servers = servers::description(&world);
    let runtime = Runtime::new().expect("a runtime");
    let upload = Duration::from_millis(settings.upload_ms);
    let catalog = connect(&world, settings.connections);
    let site = runtime.block_on(Site::register(&catalog, clusters, pack, upload));
    let site = Arc::new(site.unwrap_or_else(|error| panic!("register the clusters: {error}")));
    let shutdown = CancellationToken::new();
    let workers: Vec<_> = (0..settings.workers)
        .map(|at| start(&world, &runtime, settings, &site, at, &shutdown))
        .collect();
    let watches: Vec<Queue> = workers.iter().map(|(queue, _)| queue.clone()).collect();
    let empty = servers::catalog_bytes(&world);
    let tick = idle_tick(&mut world, &runtime, &site, &watches[0]);
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let rate = clusters as f64 / f64::from(settings.archive_timeout);
    let seconds = if last {
        settings.seconds
    } else {
        settings.short_seconds
    };
    let level = Level {
        rate,
        time: Duration::from_secs(seconds),
        tick: Duration::from_secs(settings.tick),
        patience: Duration::from_secs(600),
    };
    servers::forget_statements(&world);
    let real = load::run(&mut world, &runtime, &site, &watches, &level);
    let statements = servers::statements(&world, real.handed.max(1));
    let mut raised = Vec::new();
    for factor in settings.factors.iter().filter(|_| last) {
        eprintln!("scale: {factor} times the load");
        let level = Level {
            rate: rate * factor,
            time: Duration::from_secs(settings.step_seconds),
            ..level
        };
        let outcome = load::run(&mut world, &runtime, &site, &watches, &level);
        let broken = print::broken(&outcome);
        raised.push(outcome);
        if broken {
            break;
        }
    }
    // The more segments, the less do half-filled pages weigh.
    let handed = site.counts.handed.load(Relaxed);
    #[expect(clippy::cast_precision_loss, reason = "some gigabytes")]
    let catalog_bytes = (servers::catalog_bytes(&world) - empty) as f64 / handed.max(1) as f64;
    let job_bytes = job_bytes(&world, &runtime);
    shutdown.cancel();
    for (_, worker) in workers {
        runtime.block_on(worker).expect("a worker does not panic");
    }
    Stage {
        clusters,
        servers,
        tick,
        statements,
        real,
        raised,
        catalog_bytes,
        job_bytes,
    }
}

fn connect(world: &World, connections: usize) -> Catalog {
    let url = world.environment()["DATABASE_URL"].clone();
    let mut settings = CatalogSettings::new(url.into(), "bench-scale");
    settings.pool_size = connections;
    Catalog::new(settings).unwrap_or_else(|error| panic!("address the catalog: {error}"))
}

fn queue(world: &World, name: &str) -> Queue {
    let name: QueueName = name.parse().expect("a queue's name");
    let redis = RedisSettings::new(world.redis().url());
    Queue::new(redis, name, QueueSettings::default())
        .unwrap_or_else(|error| panic!("address the queue: {error}"))
}

/// A worker with connections of its own; its queue is what its watch enqueues to.
fn start(
    world: &World,
    runtime: &Runtime,
    settings: &Settings,
    site: &Arc<Site>,
    at: usize,
    shutdown: &CancellationToken,
) -> (Queue, tokio::task::JoinHandle<()>) {
    let worker = Worker {
        site: Arc::clone(site),
        catalog: connect(world, settings.connections),
        queue: queue(world, "backups"),
        name: format!("simulated-{at}"),
        packing: Arc::new(Semaphore::new(settings.pack_threads)),
        admission: Arc::new(Semaphore::new(settings.in_flight)),
        leases: leases::Leases::default(),
    };
    let queue = worker.queue.clone();
    let consumer = Consumer {
        queue: queue.clone(),
        worker: WorkerIdentity {
            id: worker.name.clone(),
            ..WorkerIdentity::of_this_process(&[queue.name().clone()])
        },
        slots: settings.slots,
        grace: Duration::from_secs(25),
    };
    let shutdown = shutdown.clone();
    let task = runtime.spawn(async move {
        let keep = tokio::spawn(worker.leases.clone().keep(worker.catalog.clone()));
        let ended = consumer.run(worker, shutdown, ConsumerHealth::new()).await;
        keep.abort();
        ended.unwrap_or_else(|error| panic!("a simulated worker ended: {error}"));
    });
    (queue, task)
}

/// A job of the scheduler with nothing to do, timed after one that made everything warm.
fn idle_tick(world: &mut World, runtime: &Runtime, site: &Site, queue: &Queue) -> Tick {
    run_tick(runtime, site, queue, 0);
    let before = servers::look(world);
    let took = run_tick(runtime, site, queue, 1);
    // A backend reports its transactions once a second, the last ones after 10 s of idling.
    std::thread::sleep(Duration::from_secs(11));
    let after = servers::look(world);
    Tick {
        took,
        catalog: after.catalog.saturating_sub(before.catalog),
        commits: after.commits - before.commits,
    }
}

fn run_tick(runtime: &Runtime, site: &Site, queue: &Queue, slot: u64) -> Duration {
    let (began, jobs) = (Instant::now(), site.counts.jobs.load(Relaxed));
    runtime
        .block_on(queue.enqueue(worker::tick(slot)))
        .expect("Redis takes the tick");
    loop {
        let stats = runtime.block_on(queue.stats()).expect("Redis answers");
        if site.counts.jobs.load(Relaxed) > jobs && stats.ready + stats.leased == 0 {
            return began.elapsed();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Memory that Redis needs for one waiting job.
fn job_bytes(world: &World, runtime: &Runtime) -> f64 {
    const JOBS: u32 = 10_000;
    let queue = queue(world, "memory");
    let before = servers::redis_memory(world);
    for at in 0..JOBS {
        let job: NewJob = worker::follow_up(&format!("c{at:05}"), 1, Duration::from_secs(3600));
        runtime
            .block_on(queue.enqueue(job))
            .expect("Redis takes a job");
    }
    let more = servers::redis_memory(world).saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let bytes = more as f64 / f64::from(JOBS);
    bytes
}
