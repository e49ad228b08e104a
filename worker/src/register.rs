//! Which handler runs which job.

use std::time::{Duration, Instant};

use walferry_jobs::{
    Backfill, BaseBackup, ContinuousWalArchiving, JobKind, PayloadError, Retention,
};
use walferry_observe::{JobOutcome, Metrics};
use walferry_queue::{Handler, Job, JobContext, Outcome, Queue};

use crate::{jobs, setup::Setup};

/// The handlers of one queue's consumer.
#[derive(Clone)]
pub struct Handlers {
    setup: Setup,
    queue: Queue,
    metrics: Metrics,
}

impl Handlers {
    /// `queue` is where follow-up jobs go.
    #[must_use]
    pub fn new(setup: Setup, queue: Queue, metrics: Metrics) -> Self {
        Self {
            setup,
            queue,
            metrics,
        }
    }

    async fn run(&self, job: &Job, ctx: JobContext) -> Outcome {
        let args = job.args.clone();
        match job.name.as_str() {
            ContinuousWalArchiving::NAME => {
                match ContinuousWalArchiving::from_args(job.version, args) {
                    Ok(payload) => {
                        jobs::continuous_wal_archiving::handle(
                            &self.setup,
                            &self.queue,
                            payload,
                            ctx,
                        )
                        .await
                    }
                    Err(error) => undecodable(&error),
                }
            }
            Retention::NAME => match Retention::from_args(job.version, args) {
                Ok(_) => jobs::retention::handle(&self.setup, &self.metrics, ctx).await,
                Err(error) => undecodable(&error),
            },
            Backfill::NAME => match Backfill::from_args(job.version, args) {
                Ok(payload) => jobs::backfill::handle(&self.setup, payload, ctx).await,
                Err(error) => undecodable(&error),
            },
            BaseBackup::NAME => match BaseBackup::from_args(job.version, args) {
                Ok(payload) => jobs::base_backup::handle(&self.setup, payload, ctx).await,
                Err(error) => undecodable(&error),
            },
            name => Outcome::Dead {
                error: format!("no handler is registered for job `{name}`"),
            },
        }
    }
}

impl Handler for Handlers {
    fn knows(&self, name: &str, version: u32) -> bool {
        walferry_jobs::knows(name, version)
    }

    async fn handle(&self, job: Job, ctx: JobContext) -> Outcome {
        let began = Instant::now();
        self.metrics
            .job_waited(&self.queue.name().to_string(), job.waited);
        let stop = ctx.clone();
        let outcome = self.run(&job, ctx).await;
        // A base backup that is done is whole: begun anew it would be another one.
        let outcome = match job.name.as_str() {
            BaseBackup::NAME => outcome,
            _ => unless_stopped(outcome, &stop),
        };
        if let Some(label) = label(&job.name) {
            self.metrics.job(label, metric(&outcome), began.elapsed());
        }
        outcome
    }
}

/// A handler that was told to stop has done what it had in hand, and perhaps not all there
/// was: of a backfill nobody else would do the rest. A second run is harmless.
fn unless_stopped(outcome: Outcome, stop: &JobContext) -> Outcome {
    match outcome {
        // The queue knows why: cancelled, out of time, or a grace that was over.
        Outcome::Done if stop.cancel.is_cancelled() => Outcome::Retry {
            error: "stopped before its end".to_owned(),
            after: None,
        },
        Outcome::Done if stop.drain.is_cancelled() => Outcome::GiveBack {
            delay: Duration::ZERO,
            reason: "its worker shuts down".to_owned(),
        },
        outcome => outcome,
    }
}

fn undecodable(error: &PayloadError) -> Outcome {
    Outcome::Dead {
        error: error.to_string(),
    }
}

/// The job's name out of the bounded set that a metric may have.
fn label(name: &str) -> Option<&'static str> {
    [
        ContinuousWalArchiving::NAME,
        Retention::NAME,
        Backfill::NAME,
        BaseBackup::NAME,
    ]
    .into_iter()
    .find(|known| *known == name)
}

fn metric(outcome: &Outcome) -> JobOutcome {
    match outcome {
        Outcome::Done => JobOutcome::Done,
        Outcome::Retry { .. } => JobOutcome::Retried,
        Outcome::GiveBack { .. } => JobOutcome::GivenBack,
        Outcome::Dead { .. } => JobOutcome::Dead,
    }
}
