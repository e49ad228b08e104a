//! `walferry push`, the bare copy twice, and the bare start of a process, interleaved.

use std::path::Path;
use std::time::Duration;

use walferry_bench::Report;
use walferry_bench::archiver::{Archiver, remove};
use walferry_bench::corpus::{Corpus, Segment};
use walferry_bench::statistics::Times;

use crate::copy::copy;
use crate::{HEAD, row};

/// What was measured in one directory.
#[derive(Default)]
pub(crate) struct Ours {
    /// The whole process of `push`.
    pub(crate) push: Times,
    /// The bare copy.
    pub(crate) copy: Times,
    /// The shell that starts `/bin/true`.
    start: Times,
    /// Each call's time without that of the copy beside it.
    pub(crate) beyond: Times,
    /// The same for one bare copy and another: what the disk alone makes of it.
    noise: Times,
}

/// Calls `push` as often as that into `directory`; `program` is `walferry`.
pub(crate) fn run(
    program: &Path,
    directory: &Path,
    corpus: &Corpus,
    archiver: &Archiver,
    calls: usize,
) -> Ours {
    let command = format!(
        "WAL_ARCHIVE_DIR={} {} push %p",
        directory.display(),
        program.display()
    );
    let mut ours = Ours::default();
    for (number, segment) in (0..calls).zip(corpus.segments().iter().cycle()) {
        let push = || {
            let took = archiver.call(&command, &segment.name);
            taken(segment, directory);
            took
        };
        let bare = || {
            let took = copy(&archiver.source(&segment.name), directory, &segment.name);
            taken(segment, directory);
            took
        };
        // Whoever comes first finds the disk as the other left it: they take turns.
        let (pushed, copied, again) = if number % 2 == 0 {
            (push(), bare(), bare())
        } else {
            let (again, copied) = (bare(), bare());
            (push(), copied, again)
        };
        ours.start.add(archiver.call("/bin/true", &segment.name));
        ours.push.add(pushed);
        ours.copy.add(copied);
        ours.beyond.add(pushed.saturating_sub(copied));
        ours.noise.add(copied.saturating_sub(again));
    }
    ours
}

impl Ours {
    /// The rows of the table.
    pub(crate) fn present(&self, report: &mut Report) {
        report.table(
            &HEAD,
            &[
                row("push, the whole process", &self.push),
                row("the copy with both fsyncs, bare", &self.copy),
                row("push beyond that, call by call", &self.beyond),
                row("one bare copy beyond another", &self.noise),
                row("`/bin/true`, started in the same way", &self.start),
            ],
        );
    }

    /// What push takes beyond copy and fsync, at most, in `percent` of a hundred calls.
    pub(crate) fn beyond(&self, percent: f64) -> Duration {
        self.beyond.percentile(percent)
    }
}

/// Compares what was handed over, and makes room for the next one.
fn taken(segment: &Segment, directory: &Path) {
    let path = directory.join(&segment.name);
    let there = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        segment.is(&there),
        "{} is not what was handed over",
        path.display()
    );
    remove(&path);
}
