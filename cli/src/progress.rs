//! How far long work is: a bar for a person who watches, plain lines when nobody does. On
//! standard error, since standard output is the result's.

use std::{
    io::IsTerminal as _,
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::duration;

/// Between two lines: a log wants to know that it goes on, not each step.
const EVERY: Duration = Duration::from_secs(10);

/// One piece of long work.
pub(crate) struct Progress {
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
}

struct Lines {
    what: &'static str,
    unit: &'static str,
    began: Instant,
    last: Option<Instant>,
    done: u64,
}

impl Progress {
    /// `what` is done, counted in `unit`: "import", "objects read".
    pub(crate) fn new(what: &'static str, unit: &'static str) -> Self {
        Self::on(what, unit, std::io::stderr().is_terminal())
    }

    fn on(what: &'static str, unit: &'static str, watched: bool) -> Self {
        let shown = if watched {
            let template = format!("{{spinner}} {what}: {{pos}} {unit}, {{elapsed}}, {{msg}}");
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template(&template)
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.enable_steady_tick(Duration::from_millis(200));
            Shown::Bar(bar)
        } else {
            Shown::Lines(Mutex::new(Lines {
                what,
                unit,
                began: Instant::now(),
                last: None,
                done: 0,
            }))
        };
        Self { shown }
    }

    /// One more is done; it is at `place` now.
    pub(crate) fn step(&self, place: &str) {
        match &self.shown {
            Shown::Bar(bar) => {
                bar.inc(1);
                bar.set_message(place.to_owned());
            }
            Shown::Lines(lines) => tell(lines, place, |done| done + 1),
        }
    }

    /// So many are done.
    pub(crate) fn at(&self, done: u64, place: &str) {
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(place.to_owned());
            }
            Shown::Lines(lines) => tell(lines, place, |_| done),
        }
    }

    /// The end: the bar goes, since the result is printed now; a last line stays.
    pub(crate) fn finish(self) {
        match self.shown {
            Shown::Bar(bar) => bar.finish_and_clear(),
            Shown::Lines(lines) => {
                let lines = lines
                    .into_inner()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                if lines.last.is_some() {
                    eprintln!("{}", lines.end(Instant::now()));
                }
            }
        }
    }
}

fn tell(lines: &Mutex<Lines>, place: &str, done: impl FnOnce(u64) -> u64) {
    let mut lines = lines
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    lines.done = done(lines.done);
    if let Some(line) = lines.line(place, Instant::now()) {
        eprintln!("{line}");
    }
}

impl Lines {
    /// The first step has a line, and then one in ten seconds.
    fn line(&mut self, place: &str, now: Instant) -> Option<String> {
        if self.last.is_some_and(|last| now - last < EVERY) {
            return None;
        }
        self.last = Some(now);
        Some(format!(
            "{}: {} {}, {place}",
            self.what, self.done, self.unit
        ))
    }

    fn end(&self, now: Instant) -> String {
        format!(
            "{}: {} {} in {}",
            self.what,
            self.done,
            self.unit,
            duration(now - self.began)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_who_watches_sees_a_bar_and_a_log_gets_lines() {
        let of = |watched| Progress::on("import", "objects read", watched).shown;
        assert!(matches!(of(true), Shown::Bar(_)));
        assert!(matches!(of(false), Shown::Lines(_)));
    }

    #[test]
    fn there_is_a_first_line_then_one_in_ten_seconds_and_a_last_one() {
        let began = Instant::now();
        let mut lines = Lines {
            what: "import",
            unit: "objects read",
            began,
            last: None,
            done: 1,
        };
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(
            lines.line("r2 a", after(0)).as_deref(),
            Some("import: 1 objects read, r2 a")
        );
        lines.done = 500;
        assert_eq!(lines.line("r2 b", after(9)), None);
        assert!(lines.line("r2 c", after(10)).is_some());
        assert_eq!(lines.line("r2 d", after(19)), None);
        assert_eq!(
            lines.end(after(75)),
            "import: 500 objects read in 1 min 15 s"
        );
    }
}
