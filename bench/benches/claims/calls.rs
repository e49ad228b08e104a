//! The calls of a worker, timed one by one.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use walferry_bench::Report;
use walferry_bench::statistics::{Times, human};
use walferry_catalog::{
    Catalog, Claim, ClaimRequest, Completed, Connection, Encoder, Enough, LocalStat, NewFile,
    Packed, claims, completion, intake,
};
use walferry_proof::{
    Evidence, Expected, ExpectedEtag, Reported, RepositoryName, Verified, VerifyMode, md5, sha256,
};
use walferry_tests::World;

use crate::fill::{Site, catalog, clouds, connect};
use crate::server::sql;

/// Files registered by one call when a burst has arrived.
const BURST: u64 = 500;
/// `archive.claim_batch`.
const BATCH: u32 = 16;
const LEASE: Duration = Duration::from_secs(60);
const LONGEST_DELAY: Duration = Duration::from_secs(300);
const SEGMENT: u64 = 16 << 20;

/// Numbers of timeline 2 that were handed out: no name is registered twice.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What one measurement found.
#[derive(Debug)]
pub(crate) struct Measured {
    size: u64,
    workers: usize,
    /// Files or segments per second.
    rates: BTreeMap<&'static str, f64>,
    calls: BTreeMap<&'static str, Times>,
}

/// One worker: a connection of its own, one call at a time.
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) catalog: Catalog,
    pub(crate) site: Site,
    up: Vec<RepositoryName>,
    calls: BTreeMap<&'static str, Times>,
    /// Files it has finished.
    done: Vec<i64>,
}

/// So many workers at once in one cluster, the hardest case.
pub(crate) fn measure(
    world: &World,
    site: &Site,
    size: u64,
    workers: usize,
    time: Duration,
    backlog: u64,
) -> Measured {
    let mut measured = Measured {
        size,
        workers,
        rates: BTreeMap::new(),
        calls: BTreeMap::new(),
    };
    let mut run = |what, kind| {
        let began = Instant::now();
        let ended = run(world, site, workers, kind);
        let took = began.elapsed().as_secs_f64();
        let files: u64 = ended.iter().map(|(_, files)| files).sum();
        measured.rates.insert(what, files as f64 / took);
        for (worker, _) in ended {
            for (call, times) in worker.calls {
                measured.calls.entry(call).or_default().append(times);
            }
        }
    };
    run(
        "registered, one a call",
        Kind::Register {
            burst: 1,
            time,
            least: 0,
        },
    );
    let least = backlog;
    run(
        "registered, 500 a call",
        Kind::Register {
            burst: BURST,
            time: Duration::ZERO,
            least,
        },
    );
    run("archived", Kind::Work(time));
    measured
}

/// Archives `segments` with one worker, from registering to the end.
pub(crate) fn archive(world: &World, site: &Site, segments: u64) {
    run(
        world,
        site,
        1,
        Kind::Register {
            burst: 1,
            time: Duration::ZERO,
            least: segments,
        },
    );
    run(world, site, 1, Kind::Work(Duration::MAX));
}

/// Forgets what is left, so that the next measurement begins without a backlog. How much it was.
pub(crate) fn forget_backlog(world: &World) -> i64 {
    let left = world.number("SELECT count(*) FROM wal_files WHERE due_at IS NOT NULL");
    sql(world, "DELETE FROM wal_files WHERE due_at IS NOT NULL");
    for table in ["wal_files", "copies", "local_files"] {
        sql(world, &format!("VACUUM (ANALYZE) {table}"));
    }
    left
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// For so long, and at least so many files.
    Register {
        burst: u64,
        time: Duration,
        least: u64,
    },
    /// For so long, or until nothing is left.
    Work(Duration),
}

fn run(world: &World, site: &Site, workers: usize, kind: Kind) -> Vec<(Worker, u64)> {
    let handle = world.runtime().handle();
    let running: Vec<_> = (0..workers)
        .map(|number| {
            let mut worker = Worker::new(world, site, number);
            handle.spawn(async move {
                let files = match kind {
                    Kind::Register { burst, time, least } => {
                        worker.register(burst, time, least / workers as u64).await
                    }
                    Kind::Work(time) => worker.work(time).await,
                };
                (worker, files)
            })
        })
        .collect();
    let ended: Vec<(Worker, u64)> = running
        .into_iter()
        .map(|worker| handle.block_on(worker).expect("the worker ends"))
        .collect();
    let mut done = HashSet::new();
    for file in ended.iter().flat_map(|(worker, _)| &worker.done) {
        assert!(done.insert(file), "two workers archived file {file}");
    }
    ended
}

impl Worker {
    pub(crate) fn new(world: &World, site: &Site, number: usize) -> Worker {
        Worker {
            name: format!("bench-{number}"),
            catalog: catalog(world),
            site: site.clone(),
            up: clouds(),
            calls: BTreeMap::new(),
            done: Vec::new(),
        }
    }

    pub(crate) async fn connect(&self) -> Connection {
        connect(&self.catalog).await
    }

    /// Times a call, its connection included.
    async fn timed<T>(&mut self, what: &'static str, call: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let answer = call.await;
        self.calls.entry(what).or_default().add(began.elapsed());
        answer
    }

    async fn register(&mut self, burst: u64, time: Duration, least: u64) -> u64 {
        let what = if burst == 1 {
            "register 1"
        } else {
            "register 500"
        };
        let (began, mut files) = (Instant::now(), 0);
        while began.elapsed() < time || files < least {
            let fresh: Vec<NewFile> = (0..burst).map(|_| new_file()).collect();
            let (catalog, site, up) = (self.catalog.clone(), self.site.clone(), self.up.clone());
            let registered = self
                .timed(what, async {
                    let mut conn = connect(&catalog).await;
                    intake::register(&mut conn, site.prefix, site.directory, &fresh, &up).await
                })
                .await
                .expect("files are registered");
            assert_eq!(registered.new, burst, "each was new");
            files += burst;
        }
        files
    }

    async fn work(&mut self, time: Duration) -> u64 {
        let began = Instant::now();
        while began.elapsed() < time {
            let claimed = self.claim(BATCH).await;
            if claimed.is_empty() {
                break;
            }
            for claim in claimed {
                self.archive(&claim).await;
            }
        }
        self.done.len() as u64
    }

    pub(crate) async fn claim(&mut self, limit: u32) -> Vec<Claim> {
        let (catalog, site, up) = (self.catalog.clone(), self.site.clone(), self.up.clone());
        let worker = self.name.clone();
        self.timed("claim 16", async {
            let request = ClaimRequest {
                worker: &worker,
                lease: LEASE,
                limit,
                cluster: Some(site.cluster),
                directories: &[site.directory],
                repositories_up: &up,
                enough: Enough::AllRequired,
                longest_delay: LONGEST_DELAY,
            };
            claims::claim(&mut *connect(&catalog).await, &request).await
        })
        .await
        .expect("the catalog answers a claim")
    }

    /// What a worker asks and tells of one file, in its order; the clouds take no time.
    pub(crate) async fn archive(&mut self, claim: &Claim) {
        let (token, catalog) = (claim.token, self.catalog.clone());
        let packed = packed(claim);
        self.timed("choose_encoder", async {
            completion::choose_encoder(&mut *connect(&catalog).await, token, &packed.encoder).await
        })
        .await
        .expect("an encoder is chosen");
        self.timed("set_packed", async {
            completion::set_packed(&mut *connect(&catalog).await, token, &packed).await
        })
        .await
        .expect("the content is recorded");
        let proofs: Vec<Verified> = self
            .up
            .iter()
            .map(|cloud| proof(&self.site, claim, cloud))
            .collect();
        for _ in 0..proofs.len() {
            self.still_held(claim).await;
        }
        let completed = self
            .timed("complete", async {
                let enough = Enough::AllRequired;
                completion::complete(
                    &mut *connect(&catalog).await,
                    token,
                    proofs,
                    Vec::new(),
                    enough,
                )
                .await
            })
            .await
            .expect("the copies are recorded");
        let Completed::Archived(archived) = completed else {
            panic!(
                "`{}` has two copies and is not archived: {completed:?}",
                claim.file
            );
        };
        self.still_held(claim).await;
        let gone: Vec<_> = claim
            .local
            .iter()
            .map(|local| (local.directory, local.stat))
            .collect();
        let finished = self
            .timed("local_deleted", async {
                completion::local_deleted(&mut *connect(&catalog).await, &archived, &gone).await
            })
            .await
            .expect("the claim ends");
        assert!(!finished.local_remains, "`{}` was deleted", claim.file);
        self.done.push(token.file.get());
    }

    async fn still_held(&mut self, claim: &Claim) {
        let (token, catalog) = (claim.token, self.catalog.clone());
        let held = self
            .timed("still_held", async {
                claims::still_held(&mut *connect(&catalog).await, token).await
            })
            .await
            .expect("the catalog answers");
        assert!(held, "the claim of `{}` was lost", claim.file);
    }
}

/// A segment that was never handed over before.
pub(crate) fn new_file() -> NewFile {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("00000002{:08X}{:08X}", number / 256, number % 256);
    NewFile {
        file: name.parse().expect("a segment's name"),
        stat: LocalStat {
            dev: 65_024,
            ino: number,
            size: SEGMENT,
            mtime_ns: 1_790_000_000_000_000_000,
        },
        mtime: chrono::Utc::now(),
    }
}

pub(crate) fn packed(claim: &Claim) -> Packed {
    let name = claim.file.to_string();
    Packed {
        sha256: sha256(name.as_bytes()),
        size: SEGMENT,
        encoder: Encoder {
            name: "libdeflate".into(),
            level: 9,
        },
        compressed_size: 500_000,
        compressed_md5: md5(name.as_bytes()),
    }
}

pub(crate) fn proof(site: &Site, claim: &Claim, cloud: &RepositoryName) -> Verified {
    let packed = packed(claim);
    let key = format!("{}{}.gz", site.key_prefix, claim.file);
    let expected = Expected {
        sha256: packed.sha256,
        plain_size: packed.size,
        stored_size: packed.compressed_size,
        stored_md5: packed.compressed_md5,
        etag: ExpectedEtag::Single(packed.compressed_md5),
    };
    let reported = Reported {
        repository: cloud.clone(),
        key: key.parse().expect("an object's key"),
        evidence: Evidence::Head {
            size: packed.compressed_size,
            etag: Some(packed.compressed_md5.to_string()),
            sha256_metadata: Some(packed.sha256),
        },
    };
    Verified::compare(&expected, reported, VerifyMode::Head).expect("they are equal")
}

pub(crate) fn tell(measured: &[Measured], report: &mut Report) {
    report.paragraph(
        "### Registering and claiming\n\nPer second, by all workers together, in one cluster. A worker is one \
         connection and one call at a time. *Archived* is a segment's whole way: claim (16 at once), `choose_encoder`, \
         `set_packed`, `still_held` three times, `complete`, `local_deleted`; the clouds and the disk of the files take no time.",
    );
    let mut head = vec![
        "per second".to_owned(),
        "segments in the catalog".to_owned(),
    ];
    let mut workers: Vec<usize> = measured.iter().map(|one| one.workers).collect();
    workers.sort_unstable();
    workers.dedup();
    head.extend(workers.iter().map(|workers| format!("{workers} at work")));
    let sizes: Vec<u64> = {
        let mut sizes: Vec<u64> = measured.iter().map(|one| one.size).collect();
        sizes.dedup();
        sizes
    };
    let mut rows = Vec::new();
    for what in [
        "registered, one a call",
        "registered, 500 a call",
        "archived",
    ] {
        for size in &sizes {
            let mut row = vec![what.to_owned(), size.to_string()];
            for count in &workers {
                let one = measured
                    .iter()
                    .find(|one| one.size == *size && one.workers == *count);
                row.push(one.map_or_else(String::new, |one| format!("{:.0}", one.rates[what])));
            }
            rows.push(row);
        }
    }
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    report.table(&head, &rows);

    report.paragraph("Each call by itself, its connection from the pool included, p50 and p99:");
    let columns: Vec<&Measured> = measured
        .iter()
        .filter(|one| one.workers == workers[0] || Some(&one.workers) == workers.last())
        .collect();
    let mut head = vec!["call".to_owned()];
    head.extend(
        columns
            .iter()
            .map(|one| format!("{}, {} at work", one.size, one.workers)),
    );
    let calls: Vec<&'static str> = measured
        .first()
        .map_or_else(Vec::new, |one| one.calls.keys().copied().collect());
    let rows: Vec<Vec<String>> = calls
        .iter()
        .map(|call| {
            let mut row = vec![format!("`{call}`")];
            row.extend(columns.iter().map(|one| {
                let times = &one.calls[call];
                format!(
                    "{} / {}",
                    human(times.percentile(50.0)),
                    human(times.percentile(99.0))
                )
            }));
            row
        })
        .collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    report.table(&head, &rows);

    let (Some(small), Some(large)) = (sizes.first(), sizes.last()) else {
        return;
    };
    for what in ["registered, one a call", "archived"] {
        let rate = |size: u64| {
            let rates = measured
                .iter()
                .filter(|one| one.size == size)
                .map(|one| one.rates[what]);
            rates.fold(0.0, f64::max)
        };
        let share = rate(*large) / rate(*small);
        report.goal(
            &format!("{what}: with {large} segments at least half of the rate with {small}"),
            &format!(
                "{:.0} of {:.0} per second ({:.0} %)",
                rate(*large),
                rate(*small),
                share * 100.0
            ),
            share >= 0.5,
        );
    }
}
