//! Bytes on their way: how many of how many, how fast, and how long it still takes. On
//! standard error, as all progress.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{bytes, duration};

/// Between two lines when nobody watches.
const EVERY: Duration = Duration::from_secs(10);

/// One long transfer.
pub(crate) struct Transfer {
    what: &'static str,
    began: Instant,
    last: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Transfer {
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            what,
            began: Instant::now(),
            last: None,
            bar,
        }
    }

    /// So many bytes are there, of about so many; `note` says what else there is to say.
    pub(crate) fn at(&mut self, done: u64, total: Option<u64>, note: &str) {
        let now = Instant::now();
        let told = line(self.what, done, total, now - self.began, note);
        match &self.bar {
            Some(bar) => bar.set_message(told),
            None if self.last.is_some_and(|last| now - last < EVERY) => {}
            None => {
                self.last = Some(now);
                eprintln!("{told}");
            }
        }
    }

    /// The result is printed now.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(what: &str, done: u64, total: Option<u64>, elapsed: Duration, note: &str) -> String {
    let mut text = format!("{what}: {}", bytes(done));
    // The server's estimate may be too low: nothing is 101 % done.
    let total = total.filter(|total| *total > 0);
    if let Some(total) = total {
        let share = (done.min(total) as f64 / total as f64 * 100.0).floor();
        text.push_str(&format!(" of about {}, {share} %", bytes(total.max(done))));
    }
    let seconds = elapsed.as_secs_f64();
    if done > 0 && seconds >= 1.0 {
        let rate = done as f64 / seconds;
        text.push_str(&format!(", {}/s", bytes(rate as u64)));
        if let Some(left) = total.and_then(|total| total.checked_sub(done)) {
            let left = Duration::from_secs_f64((left as f64 / rate).min(1e9));
            text.push_str(&format!(", {} left", duration(left)));
        }
    }
    if !note.is_empty() {
        text.push_str(&format!(", {note}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(done: u64, total: Option<u64>, seconds: u64, note: &str, expected: &str) {
        let elapsed = Duration::from_secs(seconds);
        assert_eq!(line("base backup", done, total, elapsed, note), expected);
    }

    #[test]
    fn a_line_says_how_much_how_fast_and_how_long() {
        const MIB: u64 = 1 << 20;
        check(0, None, 0, "", "base backup: 0 B");
        check(
            50 * MIB,
            Some(200 * MIB),
            5,
            "r2 40.0 MiB",
            "base backup: 50.0 MiB of about 200.0 MiB, 25 %, 10.0 MiB/s, 15 s left, r2 40.0 MiB",
        );
        check(50 * MIB, None, 5, "", "base backup: 50.0 MiB, 10.0 MiB/s");
    }

    #[test]
    fn more_than_was_estimated_is_never_more_than_all() {
        check(
            3 << 20,
            Some(2 << 20),
            1,
            "",
            "base backup: 3.0 MiB of about 3.0 MiB, 100 %, 3.0 MiB/s",
        );
    }
}
