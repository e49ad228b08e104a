//! Jobs on cron expressions: retention, base backups, and whatever a later version adds.

use std::time::Duration;

use anyhow::Context as _;
use walferry_config::{PeriodicJob, SchedulerConfig};
use walferry_jobs::{BaseBackup, JobKind, Retention};
use walferry_queue::{NewJob, Priority, Queue, QueueName};

use crate::slot::{Periodic, When};

/// How late another scheduler may be for a slot that this one has filled.
const KEEP: Duration = Duration::from_secs(10 * 60);

pub(super) fn periodic(config: &SchedulerConfig) -> anyhow::Result<Vec<Periodic>> {
    let mut jobs = Vec::new();
    for (periodic, schedule) in &config.scheduler.cron {
        let when = When::Cron(Box::new(schedule.clone()));
        match periodic {
            PeriodicJob::Retention => {
                let queue = queue(config, &config.queue.name)?;
                let job = job(&Retention {})?;
                jobs.push(Periodic::new(Retention::NAME, when, queue, job, KEEP));
            }
            // To the queue of the workers that stand near the cluster.
            PeriodicJob::BaseBackup => {
                for cluster in config.clusters.iter() {
                    let queue = queue(config, &cluster.queue)?;
                    let job = job(&BaseBackup {
                        cluster: cluster.name.clone(),
                    })?;
                    jobs.push(
                        Periodic::new(BaseBackup::NAME, when.clone(), queue, job, KEEP)
                            .of_cluster(&cluster.name),
                    );
                }
            }
        }
    }
    Ok(jobs)
}

fn queue(config: &SchedulerConfig, name: &QueueName) -> anyhow::Result<Queue> {
    Queue::new(
        config.redis.settings.clone(),
        name.clone(),
        config.queue.settings.clone(),
    )
    .with_context(|| format!("address queue `{name}`"))
}

fn job<J: JobKind>(payload: &J) -> anyhow::Result<NewJob> {
    Ok(NewJob {
        priority: Priority::try_from(J::PRIORITY)?,
        ..NewJob::new(J::NAME, J::VERSION, payload.to_args())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use walferry_config::{Config, Sources};

    use super::*;

    #[test]
    fn each_cluster_has_base_backups_of_its_own_also_on_a_queue_that_two_share() {
        let variables = [
            ("REDIS_URL", "redis://redis"),
            ("WALFERRY_CLUSTERS", "main,sales,shop"),
            ("WALFERRY_CLUSTERS_SALES_PREFIX", "sales/"),
            ("WALFERRY_CLUSTERS_SALES_DIRECTORIES", "/sales"),
            ("WALFERRY_CLUSTERS_SHOP_PREFIX", "shop/"),
            ("WALFERRY_CLUSTERS_SHOP_DIRECTORIES", "/shop"),
            ("WALFERRY_CLUSTERS_SHOP_QUEUE", "shop"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let sources = Sources::from(HashMap::from(variables));
        let config = Config::load(sources).unwrap().scheduler().unwrap();
        let schedules = periodic(&config).unwrap();
        let names: BTreeSet<&str> = schedules.iter().map(Periodic::schedule).collect();
        assert_eq!(
            names,
            BTreeSet::from([
                "base-backup:main@backups",
                "base-backup:sales@backups",
                "base-backup:shop@shop",
                "retention@backups",
            ])
        );
    }
}
