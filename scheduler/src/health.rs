//! What `/healthz` and `/readyz` of the scheduler say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use walferry_observe::Checks;

/// How often a schedule's task says that it lives.
pub const BEAT: Duration = Duration::from_secs(2);
/// A task that said nothing for so long is stuck.
const SILENT: Duration = Duration::from_secs(12);

/// The schedules' signs of life. Cheap to clone.
#[derive(Clone)]
pub struct Beats(Arc<Mutex<BTreeMap<&'static str, Beat>>>);

struct Beat {
    last: Instant,
    failure: Option<String>,
}

impl Beats {
    /// One per job, alive now.
    pub fn new(labels: impl IntoIterator<Item = &'static str>) -> Self {
        let beat = |label| {
            (
                label,
                Beat {
                    last: Instant::now(),
                    failure: None,
                },
            )
        };
        Self(Arc::new(Mutex::new(labels.into_iter().map(beat).collect())))
    }

    /// The job's task lives.
    pub fn beat(&self, label: &'static str) {
        self.with(label, |_| {});
    }

    /// The job's slot is in the queue.
    pub fn enqueued(&self, label: &'static str) {
        self.with(label, |beat| beat.failure = None);
    }

    /// The job's slot could not be enqueued.
    pub fn failed(&self, label: &'static str, error: &str) {
        self.with(label, |beat| beat.failure = Some(error.to_owned()));
    }

    /// Makes `/healthz` look at every task and `/readyz` at its last enqueue.
    pub fn register(&self, checks: &Checks) {
        let beats = self.clone();
        checks.alive("schedules", move || {
            let silent = beats.find(|beat| beat.last.elapsed() > SILENT);
            async move {
                silent.map_or(Ok(()), |(label, _)| {
                    Err(format!("the schedule of `{label}` gives no sign of life"))
                })
            }
        });
        let beats = self.clone();
        checks.ready("enqueue", move || {
            let failing = beats.find(|beat| beat.failure.is_some());
            async move {
                failing.map_or(Ok(()), |(label, error)| {
                    Err(format!("`{label}` could not be enqueued: {error}"))
                })
            }
        });
    }

    fn find(&self, wanted: impl Fn(&Beat) -> bool) -> Option<(&'static str, String)> {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beats
            .iter()
            .find(|(_, beat)| wanted(beat))
            .map(|(label, beat)| (*label, beat.failure.clone().unwrap_or_default()))
    }

    fn with(&self, label: &'static str, change: impl FnOnce(&mut Beat)) {
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(beat) = beats.get_mut(label) {
            beat.last = Instant::now();
            change(beat);
        }
    }
}
