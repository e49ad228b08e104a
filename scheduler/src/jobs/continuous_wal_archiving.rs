//! The safety net: every 300 s each queue is told to look what waits.

use anyhow::Context as _;
use walferry_config::SchedulerConfig;
use walferry_jobs::{ContinuousWalArchiving, JobKind};
use walferry_queue::{NewJob, Priority, Queue};

use crate::{
    interval::Interval,
    slot::{Periodic, When},
};

pub(super) fn periodic(config: &SchedulerConfig) -> anyhow::Result<Vec<Periodic>> {
    let interval = config.scheduler.archive_interval;
    config
        .clusters
        .queues()
        .into_iter()
        .map(|name| {
            let queue = Queue::new(
                config.redis.settings.clone(),
                name.clone(),
                config.queue.settings.clone(),
            )
            .with_context(|| format!("address queue `{name}`"))?;
            let job = NewJob {
                priority: Priority::try_from(ContinuousWalArchiving::PRIORITY)?,
                ..NewJob::new(
                    ContinuousWalArchiving::NAME,
                    ContinuousWalArchiving::VERSION,
                    ContinuousWalArchiving::everything().to_args(),
                )
            };
            // A second scheduler may come as late as its clock is wrong: two slots.
            Ok(Periodic::new(
                ContinuousWalArchiving::NAME,
                When::Every(Interval::every(interval)),
                queue,
                job,
                interval * 2,
            ))
        })
        .collect()
}
