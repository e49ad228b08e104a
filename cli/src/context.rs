//! What every command but `push` starts with.

use std::path::PathBuf;

use walferry_catalog::{Catalog, CatalogSettings};
use walferry_config::{Config, Problems, Sources};
use walferry_queue::{Queue, QueueName};

use crate::output::Output;

/// The configuration and where output goes.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) output: Output,
}

impl Context {
    /// Reads flags, environment and file; sections are resolved when a command needs them.
    pub(crate) fn load(
        file: Option<PathBuf>,
        set: Vec<String>,
        json: bool,
    ) -> anyhow::Result<Self> {
        let sources = Sources::of_process().file(file).set(&set)?;
        let config = Config::load(sources)?;
        Ok(Self {
            config,
            output: Output::new(json),
        })
    }

    /// The catalog; nothing is connected yet.
    pub(crate) fn catalog(&self) -> anyhow::Result<Catalog> {
        let settings = self.config.get::<walferry_config::CatalogSettings>()?;
        Ok(Catalog::new(CatalogSettings {
            pool_size: 2,
            connect_timeout: settings.connect_timeout,
            statement_timeout: settings.statement_timeout,
            ..CatalogSettings::new(settings.url, "walferry")
        })?)
    }

    /// The queue of that name, or the configured one.
    pub(crate) fn queue(&self, name: Option<QueueName>) -> anyhow::Result<Queue> {
        let (redis, tuning) = self
            .config
            .get::<(walferry_config::Redis, walferry_config::QueueTuning)>()?;
        let name = name.unwrap_or(tuning.name);
        Ok(Queue::new(redis.settings, name, tuning.settings)?)
    }

    /// The queues of all clusters, and the one of the periodic jobs.
    pub(crate) fn queues(&self) -> anyhow::Result<Vec<Queue>> {
        let (clusters, tuning) = self
            .config
            .get::<(walferry_config::Clusters, walferry_config::QueueTuning)>()?;
        let mut names = clusters.queues();
        if !names.contains(&tuning.name) {
            names.push(tuning.name);
        }
        names
            .into_iter()
            .map(|name| self.queue(Some(name)))
            .collect()
    }

    /// Every section, for commands that need several.
    pub(crate) fn get<S: walferry_config::Section>(&self) -> Result<S, Problems> {
        self.config.get::<S>()
    }
}
