//! What `/healthz` and `/readyz` of the scheduler say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use walferry_observe::Checks;

/// How often a schedule's task says that it lives.
pub const BEAT: Duration = Duration::from_secs(2);
/// A task that said nothing for so long is stuck, unless it waits for Redis.
const SILENT: Duration = Duration::from_secs(12);

/// The schedules' signs of life. Cheap to clone.
#[derive(Clone)]
pub struct Beats {
    silent: Duration,
    schedules: Arc<Mutex<BTreeMap<String, Beat>>>,
}

struct Beat {
    last: Instant,
    failure: Option<String>,
}

impl Beats {
    /// One per schedule, alive now. `answer` is how long Redis may take for an answer: the
    /// two tries of one enqueue are no silence.
    #[must_use]
    pub fn new<'a>(schedules: impl IntoIterator<Item = &'a str>, answer: Duration) -> Self {
        let beat = |schedule: &str| {
            let beat = Beat {
                last: Instant::now(),
                failure: None,
            };
            (schedule.to_owned(), beat)
        };
        Self {
            silent: SILENT.max(answer * 2 + Duration::from_secs(3)),
            schedules: Arc::new(Mutex::new(schedules.into_iter().map(beat).collect())),
        }
    }

    /// The schedule's task lives.
    pub fn beat(&self, schedule: &str) {
        self.with(schedule, |_| {});
    }

    /// The schedule's slot is in the queue.
    pub fn enqueued(&self, schedule: &str) {
        self.with(schedule, |beat| beat.failure = None);
    }

    /// The schedule's slot could not be enqueued.
    pub fn failed(&self, schedule: &str, error: &str) {
        self.with(schedule, |beat| beat.failure = Some(error.to_owned()));
    }

    /// Makes `/healthz` look at every task and `/readyz` at its last enqueue.
    pub fn register(&self, checks: &Checks) {
        let beats = self.clone();
        checks.alive("schedules", move || {
            let alive = beats.alive();
            async move { alive }
        });
        let beats = self.clone();
        checks.ready("enqueue", move || {
            let ready = beats.ready();
            async move { ready }
        });
    }

    fn alive(&self) -> Result<(), String> {
        self.find(|beat| beat.last.elapsed() > self.silent)
            .map_or(Ok(()), |(schedule, _)| {
                Err(format!("the schedule `{schedule}` gives no sign of life"))
            })
    }

    fn ready(&self) -> Result<(), String> {
        self.find(|beat| beat.failure.is_some())
            .map_or(Ok(()), |(schedule, error)| {
                Err(format!("`{schedule}` could not be enqueued: {error}"))
            })
    }

    fn find(&self, wanted: impl Fn(&Beat) -> bool) -> Option<(String, String)> {
        self.schedules()
            .iter()
            .find(|(_, beat)| wanted(beat))
            .map(|(schedule, beat)| (schedule.clone(), beat.failure.clone().unwrap_or_default()))
    }

    fn with(&self, schedule: &str, change: impl FnOnce(&mut Beat)) {
        if let Some(beat) = self.schedules().get_mut(schedule) {
            beat.last = Instant::now();
            change(beat);
        }
    }

    fn schedules(&self) -> MutexGuard<'_, BTreeMap<String, Beat>> {
        self.schedules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use walferry_config::{Config, Sources};

    use super::*;

    fn config(more: &[(&str, &str)]) -> walferry_config::SchedulerConfig {
        let variables: std::collections::HashMap<String, String> =
            [("REDIS_URL", "redis://127.0.0.1:1")]
                .iter()
                .chain(more)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
        let config = Config::load(Sources::new(variables)).expect("loads");
        config.scheduler().expect("a scheduler's configuration")
    }

    #[test]
    fn a_schedule_that_fails_does_not_hide_behind_the_same_job_on_another_queue() {
        let config = config(&[
            ("WALFERRY_CLUSTERS", "main,sales"),
            ("WALFERRY_CLUSTERS_SALES_PREFIX", "sales/"),
            ("WALFERRY_CLUSTERS_SALES_DIRECTORIES", "/srv/sales"),
            ("WALFERRY_CLUSTERS_SALES_QUEUE", "sales"),
            ("WALFERRY_SCHEDULER_CRON_RETENTION", "off"),
            ("WALFERRY_SCHEDULER_CRON_BASE_BACKUP", "off"),
        ]);
        let jobs = crate::jobs::all(&config).expect("two jobs");
        let [main, sales] = &jobs[..] else {
            panic!("{} jobs", jobs.len());
        };
        let beats = Beats::new(jobs.iter().map(|job| job.schedule()), Duration::ZERO);
        beats.failed(sales.schedule(), "refused");
        beats.enqueued(main.schedule());
        let said = beats.ready().expect_err("sales failed");
        assert!(said.contains("@sales"), "{said}");
        beats.enqueued(sales.schedule());
        assert_eq!(beats.ready(), Ok(()));
    }

    #[test]
    fn a_schedule_that_waits_for_redis_is_not_silent() {
        for (answer, silent) in [(1, 12), (5, 13), (20, 43)] {
            let beats = Beats::new(["a"], Duration::from_secs(answer));
            assert_eq!(beats.silent, Duration::from_secs(silent));
        }
    }
}
