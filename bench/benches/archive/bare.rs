//! The floor: a loop on two threads that reads, hashes, packs and uploads as walferry does,
//! without queue, catalog or directory. It runs as a process of its own, as everybody does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use libdeflater::{CompressionLvl, Compressor};
use md5::Md5;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{Certificate, ClientOptions, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walferry_bench::corpus::Corpus;

use crate::field::{Field, Outcome, run_program};
use walferry_bench::check;

const PREFIX: &str = "bare/";
const THREADS: usize = 2;
const STAGES: [&str; 6] = ["read", "hash", "pack", "md5", "put", "head"];

#[derive(Serialize, Deserialize)]
struct Settings {
    directory: PathBuf,
    level: i32,
    ca: PathBuf,
    clouds: Vec<CloudSettings>,
}

#[derive(Serialize, Deserialize)]
struct CloudSettings {
    endpoint: String,
    bucket: String,
    id: String,
    secret: String,
    region: String,
}

pub(crate) fn run(field: &mut Field, corpus: &Corpus, level: i64) -> Outcome {
    let folder = field.world.folder().join("bare");
    let directory = folder.join("directory");
    std::fs::create_dir_all(&directory).expect("make a directory");
    for segment in corpus.segments() {
        segment.place(&directory);
    }
    let clouds = field.clouds().into_iter().map(|(cloud, at)| {
        let keys = cloud.credentials().clone();
        CloudSettings {
            endpoint: format!("https://{at}"),
            bucket: cloud.bucket().name().into(),
            id: keys.id,
            secret: keys.secret,
            region: keys.region,
        }
    });
    let settings = Settings {
        directory,
        level: i32::try_from(level).expect("a level"),
        ca: field.fronts.ca(),
        clouds: clouds.collect(),
    };
    let file = folder.join("settings.json");
    let text = serde_json::to_string(&settings).expect("plain values");
    std::fs::write(&file, text).expect("write the settings");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("--bare-loop").arg(&file);
    let logs = field.world.folder().join("logs");
    let mut said = String::new();
    let name = format!("a bare loop, libdeflate {level}");
    let mut outcome = field.measure(&name, |_| {
        let (own, printed) = run_program("bare", &logs, &mut command);
        said = printed;
        own
    });
    outcome.stages = serde_json::from_str(&said).expect("it prints its stages");
    outcome.stored = check::check(
        corpus,
        field.world.clouds(),
        check::gz_below(PREFIX),
        check::gz,
    );
    outcome.remark = format!("{THREADS} threads");
    outcome
}

/// The loop itself, in the process that was started for it.
pub(crate) fn run_here(settings: &Path) {
    let text = std::fs::read_to_string(settings).expect("read the settings");
    let settings: Settings = serde_json::from_str(&text).expect("settings");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let stores: Arc<Vec<AmazonS3>> = Arc::new(
        settings
            .clouds
            .iter()
            .map(|cloud| store(cloud, &settings.ca))
            .collect(),
    );
    let mut names: Vec<String> = std::fs::read_dir(&settings.directory)
        .expect("list the directory")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let next = AtomicUsize::new(0);
    let handle = runtime.handle();
    let sums = std::thread::scope(|scope| {
        let work = || {
            let level = CompressionLvl::new(settings.level).expect("a level");
            let mut worker = Worker {
                compressor: Compressor::new(level),
                packed: Vec::new(),
                stores: &stores,
                runtime: handle,
                seconds: [0.0; 6],
            };
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                worker.archive(&settings.directory.join(name), name);
            }
            worker.seconds
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread of the loop"))
            .collect::<Vec<_>>()
    });
    let stages: Vec<(&str, f64)> = STAGES
        .into_iter()
        .enumerate()
        .map(|(at, stage)| (stage, sums.iter().map(|seconds| seconds[at]).sum()))
        .collect();
    println!("{}", serde_json::to_string(&stages).expect("plain values"));
}

struct Worker<'a> {
    compressor: Compressor,
    packed: Vec<u8>,
    stores: &'a [AmazonS3],
    runtime: &'a tokio::runtime::Handle,
    seconds: [f64; 6],
}

impl Worker<'_> {
    fn archive(&mut self, path: &Path, name: &str) {
        let mut at = Instant::now();
        let mut stage = 0;
        let mut lap = |seconds: &mut [f64; 6]| {
            seconds[stage] += at.elapsed().as_secs_f64();
            (at, stage) = (Instant::now(), stage + 1);
        };
        let plain = std::fs::read(path).expect("read a segment");
        lap(&mut self.seconds);
        std::hint::black_box(Sha256::digest(&plain));
        lap(&mut self.seconds);
        let bound = self.compressor.gzip_compress_bound(plain.len());
        self.packed.resize(bound, 0);
        let size = self
            .compressor
            .gzip_compress(&plain, &mut self.packed)
            .expect("the bound is enough");
        let body = bytes::Bytes::copy_from_slice(&self.packed[..size]);
        lap(&mut self.seconds);
        let md5 = hex::encode(Md5::digest(&body));
        lap(&mut self.seconds);
        let key = object_store::path::Path::from(format!("{PREFIX}{name}.gz"));
        self.runtime.block_on(async {
            let puts = self
                .stores
                .iter()
                .map(|store| store.put(&key, PutPayload::from(body.clone())));
            for put in futures::future::join_all(puts).await {
                put.expect("a PUT");
            }
        });
        lap(&mut self.seconds);
        self.runtime.block_on(async {
            let heads = self.stores.iter().map(|store| store.head(&key));
            for head in futures::future::join_all(heads).await {
                let head = head.expect("a HEAD");
                let etag = head.e_tag.unwrap_or_default();
                assert!(
                    head.size == size as u64 && etag.trim_matches('"') == md5,
                    "{key}"
                );
            }
        });
        lap(&mut self.seconds);
        remove(path);
    }
}

fn store(cloud: &CloudSettings, ca: &Path) -> AmazonS3 {
    let pem = std::fs::read(ca).expect("read the CA");
    let options = Certificate::from_pem_bundle(&pem)
        .expect("the CA is PEM")
        .into_iter()
        .fold(ClientOptions::new(), ClientOptions::with_root_certificate);
    AmazonS3Builder::new()
        .with_endpoint(&cloud.endpoint)
        .with_bucket_name(&cloud.bucket)
        .with_access_key_id(&cloud.id)
        .with_secret_access_key(&cloud.secret)
        .with_region(&cloud.region)
        .with_client_options(options)
        .build()
        .expect("a store")
}

#[expect(clippy::disallowed_methods, reason = "a copy that the benchmark made")]
fn remove(path: &Path) {
    std::fs::remove_file(path).expect("remove a segment");
}
