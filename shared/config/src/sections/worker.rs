//! What one worker takes on, and how much of it at once.
//!
//! Reads: `WALFERRY_WORKER_QUEUES`, `…_DIRECTORIES`, `…_SLOTS`,
//! `…_PACK_THREADS`, `…_SEGMENTS_IN_FLIGHT`, `…_SHUTDOWN_GRACE`,
//! `…_HEALTH_ADDRESS`, `…_HEALTH_ADDRESS_FILE`, `…_ID`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use walferry_queue::QueueName;

use super::{Clusters, queue};
use crate::problem::Refusal;
use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value;

static QUEUES: Setting = Setting::new(
    "worker.queues",
    "the queues it serves; without it those of all clusters and `queue.name`",
);
static DIRECTORIES: Setting = Setting::new(
    "worker.directories",
    "the archive directories it serves, each `CLUSTER/DIRECTORY`; without it all",
);
static SLOTS: Setting =
    Setting::new("worker.slots", "jobs that it runs at the same time").default("4");
static PACK_THREADS: Setting =
    Setting::new("worker.pack_threads", "threads that hash and compress")
        .default_found(cores, "number of cores");
static SEGMENTS_IN_FLIGHT: Setting = Setting::new(
    "worker.segments_in_flight",
    "segments that it packs and uploads at the same time; `archive.memory_limit` bounds it too",
)
.default("8");
static SHUTDOWN_GRACE: Setting = Setting::new(
    "worker.shutdown_grace",
    "how long a stop waits for uploads under way before claims are given back",
)
.default("25s");
static HEALTH_ADDRESS: Setting = Setting::new(
    "worker.health_address",
    "where /healthz, /readyz and /metrics listen",
)
.default("127.0.0.1:9847");
static HEALTH_ADDRESS_FILE: Setting = Setting::new(
    "worker.health_address_file",
    "file to write the bound address to, for port 0",
);
static ID: Setting = Setting::new(
    "worker.id",
    "its name in lists and logs; without it made from host, process and chance",
);

pub(crate) const SETTINGS: &[&Setting] = &[
    &QUEUES,
    &DIRECTORIES,
    &SLOTS,
    &PACK_THREADS,
    &SEGMENTS_IN_FLIGHT,
    &SHUTDOWN_GRACE,
    &HEALTH_ADDRESS,
    &HEALTH_ADDRESS_FILE,
    &ID,
];

#[derive(Clone, Debug)]
pub struct Worker {
    /// Each once, at least one.
    pub queues: Vec<QueueName>,
    /// Each once; all of them exist in [`Clusters`].
    pub directories: Vec<Served>,
    pub slots: usize,
    pub pack_threads: usize,
    pub segments_in_flight: usize,
    pub shutdown_grace: Duration,
    pub health_address: SocketAddr,
    pub health_address_file: Option<PathBuf>,
    pub id: Option<String>,
}

/// An archive directory that this worker has mounted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Served {
    pub cluster: String,
    pub directory: String,
}

impl Section for Worker {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let clusters = Clusters::read(reader);
        let queues = reader.list(&QUEUES, queue::name);
        let default_queue = reader.value(&queue::NAME, queue::name);
        let served = reader.list(&DIRECTORIES, served);
        let slots = reader.value(&SLOTS, value::between(1, 1_000));
        let pack_threads = reader.value(&PACK_THREADS, value::between(1, 1_024));
        let segments_in_flight = reader.value(&SEGMENTS_IN_FLIGHT, value::between(1, 1_024));
        let (none, day) = (Duration::ZERO, Duration::from_secs(86_400));
        let shutdown_grace = reader.value(&SHUTDOWN_GRACE, value::duration(none, day));
        let health_address = reader.value(&HEALTH_ADDRESS, value::address);
        let health_address_file = reader.optional(&HEALTH_ADDRESS_FILE, value::absolute_path);
        let id = reader.optional(&ID, value::name);

        let clusters = clusters?;
        let default_queue = default_queue?;
        let queues = queues?.unwrap_or_else(|| {
            let mut queues = clusters.queues();
            queues.push(default_queue);
            queues
        });
        let mut unique: Vec<QueueName> = Vec::new();
        for queue in queues {
            if !unique.contains(&queue) {
                unique.push(queue);
            }
        }
        Some(Self {
            queues: unique,
            directories: directories(reader, &clusters, served?)?,
            slots: slots?,
            pack_threads: pack_threads?,
            segments_in_flight: segments_in_flight?,
            shutdown_grace: shutdown_grace?,
            health_address: health_address?,
            health_address_file: health_address_file?,
            id: id?,
        })
    }
}

fn served(text: &str) -> Result<Served, Refusal> {
    match text.split_once('/') {
        Some((cluster, directory)) => Ok(Served {
            cluster: value::name(cluster)?,
            directory: value::name(directory)?,
        }),
        None => Err(Refusal::new(
            format!("`{text}` names no directory of a cluster"),
            "write CLUSTER/DIRECTORY, as main/main",
        )),
    }
}

fn directories(
    reader: &mut Reader<'_>,
    clusters: &Clusters,
    chosen: Option<Vec<Served>>,
) -> Option<Vec<Served>> {
    let all: Vec<Served> = clusters
        .iter()
        .flat_map(|cluster| {
            cluster.directories.iter().map(|directory| Served {
                cluster: cluster.name.clone(),
                directory: directory.name.clone(),
            })
        })
        .collect();
    let Some(chosen) = chosen else {
        return Some(all);
    };
    let mut good = true;
    let mut unique: Vec<Served> = Vec::new();
    for served in chosen {
        if !all.contains(&served) {
            let known: Vec<String> = all
                .iter()
                .map(|s| format!("{}/{}", s.cluster, s.directory))
                .collect();
            let subject = reader.subject(&DIRECTORIES);
            reader.problem(
                &subject,
                format!(
                    "`{}/{}` is not configured",
                    served.cluster, served.directory
                ),
                format!("choose among {}", known.join(", ")),
            );
            good = false;
        } else if !unique.contains(&served) {
            unique.push(served);
        }
    }
    good.then_some(unique)
}

fn cores() -> String {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .to_string()
}
