//! Segments become ready at planned moments, and are handed over one after the other.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use walferry_bench::archiver::Archiver;
use walferry_bench::corpus::{Corpus, Segment};
use walferry_bench::statistics::Times;

use crate::{Args, Row, between};

/// The end of the name of the rows that mean the same for everybody.
pub(crate) const ALIKE: &str = "ready to in both clouds";

/// Who hands over, and when each segment becomes ready after the one before.
pub(crate) struct Plan {
    archiver: Archiver,
    pauses: Vec<Duration>,
    warm_up: usize,
}

/// When a segment was ready, and when its command had ended.
pub(crate) struct Told {
    pub(crate) ready: SystemTime,
    pub(crate) told: SystemTime,
}

impl Plan {
    /// Puts the segments into the stopped server's `pg_wal`.
    pub(crate) fn new(corpus: &mut Corpus, args: &Args) -> Plan {
        let archiver = Archiver::new(corpus.server());
        archiver.place(corpus.segments());
        let count = corpus.segments().len();
        Plan {
            archiver,
            pauses: pauses(args.seed, args.least, args.most, count),
            warm_up: args.warm_up,
        }
    }

    /// Hands all segments over with this command. A segment becomes ready at its moment, even
    /// while the command still runs for the one before.
    pub(crate) fn hand_over(&self, corpus: &Corpus, command: &str) -> HashMap<String, Told> {
        let (ready, waiting) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut due = Instant::now();
                for (segment, pause) in corpus.segments().iter().zip(&self.pauses) {
                    due += *pause;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let at = SystemTime::now();
                    self.archiver.ready(&segment.name);
                    if ready.send((segment.name.clone(), at)).is_err() {
                        return;
                    }
                }
            });
            waiting
                .iter()
                .map(|(name, ready)| {
                    let _ = self.archiver.call(command, &name);
                    let told = SystemTime::now();
                    self.archiver.done(&name);
                    (name, Told { ready, told })
                })
                .collect()
        })
    }

    /// The next one begins as this one did.
    pub(crate) fn forget(&self, corpus: &Corpus) {
        for segment in corpus.segments() {
            self.archiver.forget(&segment.name);
        }
    }

    /// The segments that count.
    pub(crate) fn counted<'a>(&self, corpus: &'a Corpus) -> &'a [Segment] {
        &corpus.segments()[self.warm_up..]
    }

    /// A row of the times between two moments of each segment that counts.
    pub(crate) fn row(
        &self,
        corpus: &Corpus,
        name: String,
        moments: impl Fn(&str) -> (SystemTime, SystemTime),
    ) -> Row {
        let times: Times = self
            .counted(corpus)
            .iter()
            .map(|segment| {
                let (from, to) = moments(&segment.name);
                between(from, to)
            })
            .collect();
        Row { name, times }
    }
}

/// `count` intervals between `least` and `most` milliseconds, the same for the same seed
/// (splitmix64).
fn pauses(seed: u64, least: u64, most: u64, count: usize) -> Vec<Duration> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    };
    (0..count)
        .map(|_| Duration::from_millis(least + next() % (most - least + 1)))
        .collect()
}
