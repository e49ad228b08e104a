//! One file per section: the variables it reads, its settings with their
//! defaults, and the resolved type.

mod archive;
mod backup;
mod catalog;
mod clusters;
mod fetch;
mod log;
mod queue;
mod redis;
mod repositories;
mod retention;
mod scheduler;
mod spool;
mod thresholds;
mod worker;

use std::collections::BTreeSet;

pub use archive::Archive;
pub use backup::{Backup, parse_rate};
pub use catalog::CatalogSettings;
pub use clusters::{ArchiveDirectory, Cluster, Clusters, Connections, Libpq, PushDirectories};
pub use fetch::Fetch;
pub use log::{Log, LogFormat};
pub use queue::QueueTuning;
pub use redis::Redis;
pub use repositories::{Repositories, Repository};
pub use retention::Retention;
pub use scheduler::{PeriodicJob, Scheduler};
pub use spool::{Spool, SpoolLimit};
pub use thresholds::Thresholds;
pub use worker::{Served, Worker};

use crate::config::Config;
use crate::setting::Setting;

/// Every section, for `config check`.
pub(crate) type Everything = (
    (Clusters, Connections),
    Spool,
    Repositories,
    CatalogSettings,
    Redis,
    QueueTuning,
    Scheduler,
    Worker,
    (Archive, Backup),
    (Retention, Fetch),
    Thresholds,
    Log,
);

pub(crate) fn all() -> Vec<&'static Setting> {
    [
        clusters::SETTINGS,
        spool::SETTINGS,
        repositories::SETTINGS,
        catalog::SETTINGS,
        redis::SETTINGS,
        queue::SETTINGS,
        scheduler::SETTINGS,
        worker::SETTINGS,
        archive::SETTINGS,
        backup::SETTINGS,
        retention::SETTINGS,
        fetch::SETTINGS,
        thresholds::SETTINGS,
        log::SETTINGS,
    ]
    .concat()
}

/// What `*` stands for in this configuration: the configured names.
pub(crate) fn instances(config: &Config, setting: &Setting) -> BTreeSet<String> {
    match setting.name.split_once(".*") {
        None => BTreeSet::from([String::new()]),
        Some(("clusters", _)) => clusters::names(config).into_iter().collect(),
        Some(("repositories", _)) => repositories::names(config).into_iter().collect(),
        Some((scheduler::CRON, _)) => scheduler::job_names(config),
        Some((group, _)) => config
            .mentioned(group)
            .into_iter()
            .map(str::to_owned)
            .collect(),
    }
}

/// A list of names that selects among the sections of a group.
fn selected(config: &Config, setting: &'static Setting) -> Option<Vec<String>> {
    let found = config.lookup(&setting.into()).ok()??;
    let texts: Vec<String> = match found.raw {
        crate::file::Raw::List(texts) => texts,
        crate::file::Raw::Text(text) => text.split(',').map(str::to_owned).collect(),
    };
    Some(texts.iter().map(|text| text.trim().to_owned()).collect())
}
