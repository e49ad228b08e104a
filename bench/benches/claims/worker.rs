//! A worker's calls, timed one by one.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use walferry_bench::statistics::Times;
use walferry_catalog::{
    Catalog, Claim, ClaimRequest, Completed, Connection, Encoder, Enough, LocalStat, NewFile,
    Packed, claims, completion, intake,
};
use walferry_proof::{
    Evidence, Expected, ExpectedEtag, Reported, RepositoryName, Verified, VerifyMode, md5, sha256,
};
use walferry_tests::World;

use crate::fill::{Site, catalog, clouds, connect};

/// `archive.claim_batch`.
const BATCH: u32 = 16;
const LEASE: Duration = Duration::from_secs(60);
const LONGEST_DELAY: Duration = Duration::from_secs(300);
const SEGMENT: u64 = 16 << 20;

/// Numbers of timeline 2 that were handed out: no name is registered twice.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// One worker: a connection of its own, one call at a time.
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) catalog: Catalog,
    pub(crate) site: Site,
    up: Vec<RepositoryName>,
    pub(crate) calls: BTreeMap<&'static str, Times>,
    /// Files it has finished.
    pub(crate) done: Vec<i64>,
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

    pub(crate) async fn register(&mut self, burst: u64, time: Duration, least: u64) -> u64 {
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

    pub(crate) async fn work(&mut self, time: Duration) -> u64 {
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
