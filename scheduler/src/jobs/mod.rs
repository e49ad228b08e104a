//! The periodic jobs: one file each.

mod continuous_wal_archiving;
mod cron;

use walferry_config::SchedulerConfig;

use crate::slot::Periodic;

/// Every periodic job of the configuration.
///
/// # Errors
/// When a queue cannot be addressed or a cron expression names an unknown job.
pub fn all(config: &SchedulerConfig) -> anyhow::Result<Vec<Periodic>> {
    let mut jobs = continuous_wal_archiving::periodic(config)?;
    jobs.extend(cron::periodic(config)?);
    Ok(jobs)
}
