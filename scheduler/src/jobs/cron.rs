//! Jobs on cron expressions: retention, and whatever a later version adds.

use std::time::Duration;

use anyhow::Context as _;
use walferry_config::{PeriodicJob, SchedulerConfig};
use walferry_jobs::{JobKind, Retention};
use walferry_queue::{NewJob, Priority, Queue};

use crate::slot::{Periodic, When};

/// How late another scheduler may be for a slot that this one has filled.
const KEEP: Duration = Duration::from_secs(10 * 60);

pub(super) fn periodic(config: &SchedulerConfig) -> anyhow::Result<Vec<Periodic>> {
    let queue = Queue::new(
        config.redis.settings.clone(),
        config.queue.name.clone(),
        config.queue.settings.clone(),
    )
    .with_context(|| format!("address queue `{}`", config.queue.name))?;
    config
        .scheduler
        .cron
        .iter()
        .map(|(periodic, schedule)| {
            let (label, job) = match periodic {
                PeriodicJob::Retention => (Retention::NAME, job(&Retention {})?),
            };
            Ok(Periodic::new(
                label,
                When::Cron(Box::new(schedule.clone())),
                queue.clone(),
                job,
                KEEP,
            ))
        })
        .collect()
}

fn job<J: JobKind>(payload: &J) -> anyhow::Result<NewJob> {
    Ok(NewJob {
        priority: Priority::try_from(J::PRIORITY)?,
        ..NewJob::new(J::NAME, J::VERSION, payload.to_args())
    })
}
