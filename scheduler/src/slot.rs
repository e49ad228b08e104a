//! One periodic job: when, what, onto which queue.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use walferry_observe::{EnqueueOutcome, Metrics};
use walferry_queue::{Enqueued, NewJob, Queue};

use crate::{
    Ticks,
    health::Beats,
    interval::{self, Interval},
};

/// When a job is due.
#[derive(Clone, Debug)]
pub enum When {
    /// Every so often, on multiples of the interval.
    Every(Interval),
    /// By a cron expression, in UTC.
    Cron(Box<cron::Schedule>),
}

/// A job that is enqueued on a schedule.
#[derive(Clone)]
pub struct Periodic {
    label: &'static str,
    /// The job and whose it is: what a slot is the slot of.
    key: String,
    /// The job, whose it is and the queue: the same job may go to several.
    schedule: String,
    when: When,
    queue: Queue,
    job: NewJob,
    /// For how long a slot stays taken after its job has ended.
    keep: Duration,
}

impl Periodic {
    /// Puts the parts together; `keep` is how late another scheduler may be.
    #[must_use]
    pub fn new(label: &'static str, when: When, queue: Queue, job: NewJob, keep: Duration) -> Self {
        Self {
            label,
            key: label.to_owned(),
            schedule: format!("{label}@{}", queue.name()),
            when,
            queue,
            job,
            keep,
        }
    }

    /// The same job of each cluster, though they share a queue.
    #[must_use]
    pub fn of_cluster(mut self, cluster: &str) -> Self {
        self.key = format!("{}:{cluster}", self.label);
        self.schedule = format!("{}@{}", self.key, self.queue.name());
        self
    }

    /// The job's name.
    #[must_use]
    pub fn label(&self) -> &'static str {
        self.label
    }

    /// The job's name, its cluster's and its queue's: what tells it from every other one.
    #[must_use]
    pub fn schedule(&self) -> &str {
        &self.schedule
    }

    /// Where it goes.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The slot that lies now, for jobs of an interval. A cron job that was missed waits for
    /// its next time: nothing depends on retention running an hour late.
    #[must_use]
    pub fn current_slot(&self) -> Option<u64> {
        match &self.when {
            When::Every(interval) => Some(interval.slot(interval::now())),
            When::Cron(_) => None,
        }
    }

    pub(crate) fn ticks(&self) -> Ticks {
        match &self.when {
            When::Every(interval) => crate::every(*interval),
            When::Cron(schedule) => crate::cron((**schedule).clone()),
        }
    }

    /// Enqueues the slot, again and again until Redis has answered or `shutdown`. What took
    /// so long that the slot is over enqueues the one that lies now: another scheduler may
    /// have filled the old one, and its key may be free again.
    pub async fn enqueue(
        &self,
        tick: u64,
        metrics: &Metrics,
        beats: &Beats,
        shutdown: &CancellationToken,
    ) {
        let mut wait = Duration::from_millis(200);
        loop {
            let slot = self.current_slot().map_or(tick, |now| now.max(tick));
            let job = NewJob {
                unique_key: Some(format!("{}:{slot}", self.key)),
                keep_key: self.keep,
                ..self.job.clone()
            };
            let result = tokio::select! {
                result = self.queue.enqueue(job) => result,
                () = shutdown.cancelled() => return,
            };
            match result {
                Ok(enqueued) => {
                    beats.enqueued(&self.schedule);
                    let added = matches!(enqueued, Enqueued::Added(_));
                    metrics.enqueued(
                        self.label,
                        if added {
                            EnqueueOutcome::Added
                        } else {
                            EnqueueOutcome::Duplicate
                        },
                    );
                    tracing::info!(job = self.label, slot, added, job.id = %enqueued.id(), "slot enqueued");
                    return;
                }
                Err(error) => {
                    beats.failed(&self.schedule, &error.to_string());
                    metrics.enqueued(self.label, EnqueueOutcome::Failed);
                    tracing::error!(
                        job = self.label,
                        slot,
                        error = &error as &dyn std::error::Error,
                        "the slot was not enqueued; it is tried again"
                    );
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = shutdown.cancelled() => return,
                    }
                    wait = (wait * 2).min(Duration::from_secs(10));
                    beats.beat(&self.schedule);
                }
            }
        }
    }
}
