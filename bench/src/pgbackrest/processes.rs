//! What pgBackRest's processes use. The asynchronous ones make themselves daemons: they are
//! adopted by the next ancestor that asked for orphans, which is this process, so that what
//! they used is counted here to the tick once they have ended.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions};

use crate::Usage;

/// How often the memory of all is summed.
const INTERVAL: Duration = Duration::from_millis(50);

const NAME: &str = "pgbackrest";

/// Adopts the orphans of pgBackRest and watches its processes, until it is dropped.
#[derive(Debug)]
pub struct Processes {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    /// Those that were there before.
    others: Arc<HashSet<u32>>,
    watcher: Option<JoinHandle<()>>,
}

/// A process called `pgbackrest`, from proc_pid_stat(5).
struct Seen {
    id: u32,
    zombie: bool,
    parent: u32,
    session: u32,
}

impl Processes {
    /// Begins to watch those that start from now on. [`Usage::of_children`] counts every process of pgBackRest from now
    /// on, when it has ended.
    ///
    /// # Panics
    /// When the kernel does not let this process adopt orphans.
    #[must_use]
    pub fn watch() -> Processes {
        // Any process id sets it, none unsets it.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .expect("a process may adopt its descendants' orphans");
        // Looking at every process of the machine each time would take time from those that
        // are watched.
        let others: Arc<HashSet<u32>> = Arc::new(ids().collect());
        let (stop, peak) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let watcher = std::thread::spawn({
            let (stop, peak, others) = (stop.clone(), peak.clone(), others.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let seen = all(&others);
                    let rss = seen.iter().map(|process| Usage::of(process.id).rss).sum();
                    peak.fetch_max(rss, Ordering::Relaxed);
                    seen.iter().for_each(bury);
                    std::thread::sleep(INTERVAL);
                }
            }
        });
        Processes {
            stop,
            peak,
            others,
            watcher: Some(watcher),
        }
    }

    /// The most resident memory that they had together, in bytes; what they share counts for
    /// each.
    #[must_use]
    pub fn peak_rss(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Waits until every process of pgBackRest has ended and was counted.
    ///
    /// # Panics
    /// When one stays for more than a minute.
    pub fn await_end(&self) {
        walferry_tests::eventually_within(
            Duration::from_secs(60),
            "pgBackRest's processes end",
            || {
                let left: Vec<u32> = all(&self.others).iter().map(|process| process.id).collect();
                walferry_tests::wait::is(left.is_empty(), left)
            },
        );
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

/// Takes the end of an orphan: one that left our session. What is in it was started by
/// somebody here, who waits for it himself.
fn bury(process: &Seen) {
    let raw = |pid: Pid| pid.as_raw_nonzero().get().unsigned_abs();
    let ours = rustix::process::getsid(None).map(raw).unwrap_or_default();
    let own = raw(rustix::process::getpid());
    if process.zombie && process.parent == own && process.session != ours {
        let id = i32::try_from(process.id).ok().and_then(Pid::from_raw);
        let _ = rustix::process::waitpid(id, WaitOptions::NOHANG);
    }
}

/// The processes of pgBackRest that descend from this one and are not `others`.
fn all(others: &HashSet<u32>) -> Vec<Seen> {
    let mut named: Vec<Seen> = ids()
        .filter(|id| !others.contains(id))
        .filter_map(|id| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let (head, rest) = stat.rsplit_once(')')?;
            let (_, name) = head.split_once('(')?;
            let mut fields = rest.split_whitespace();
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            let session = fields.nth(1)?.parse().ok()?;
            (name == NAME).then_some(Seen {
                id,
                zombie: state == "Z",
                parent,
                session,
            })
        })
        .collect();
    let mut family = vec![std::process::id()];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        let children = named.iter().filter(|process| process.parent == parent);
        family.extend(children.map(|process| process.id));
        at += 1;
    }
    named.retain(|process| family.contains(&process.id));
    named
}

fn ids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
