//! The file in which every worker notes each job that begins: `job pid ns`, one write a line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// One run of a job began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) job: u64,
    pub(crate) process: u32,
    /// Nanoseconds since 1970.
    pub(crate) at: u64,
}

/// A file of starts.
#[derive(Debug, Clone)]
pub(crate) struct Starts(PathBuf);

impl Starts {
    /// An empty one.
    pub(crate) fn new(path: PathBuf) -> Starts {
        std::fs::write(&path, "").expect("make the file of starts");
        Starts(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0
            .to_str()
            .expect("the temporary folder's path is text")
    }

    /// In the order in which they were noted.
    pub(crate) fn all(&self) -> Vec<Start> {
        let text = std::fs::read_to_string(&self.0).expect("read the file of starts");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| parse(line).expect("a start"))
            .collect()
    }

    /// How often each job began.
    pub(crate) fn times_run(&self) -> BTreeMap<u64, usize> {
        let mut times = BTreeMap::new();
        for start in self.all() {
            *times.entry(start.job).or_insert(0) += 1;
        }
        times
    }

    /// Waits until so many different jobs began; whether they did within `limit`.
    pub(crate) fn wait_for(&self, jobs: usize, limit: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < limit {
            if self.times_run().len() >= jobs {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }
}

fn parse(line: &str) -> Option<Start> {
    let mut words = line.split(' ');
    Some(Start {
        job: words.next()?.parse().ok()?,
        process: words.next()?.parse().ok()?,
        at: words.next()?.parse().ok()?,
    })
}

/// Nanoseconds since 1970, of the clock that all programs here read.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    u64::try_from(since.as_nanos()).expect("before 2554")
}
