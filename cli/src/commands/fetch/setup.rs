//! What `fetch` and the process that fetches ahead make of the configuration.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use walferry_config::{Clusters, Config, Fetch, Repositories, Sources};
use walferry_fetch::ahead::{Space, SpaceError};
use walferry_fetch::{Archive, Lazy};
use walferry_proof::RepositoryName;
use walferry_store::{ReadRepository, S3Settings};
use walferry_wal::SystemId;

use super::Whom;

/// Whom to ask, and how.
pub(super) struct Setup {
    pub(super) archive: Archive,
    pub(super) settings: Fetch,
    /// Something in the settings that is odd and stops nobody.
    pub(super) note: Option<String>,
    sources: Vec<String>,
}

impl Setup {
    /// Flags, environment, file. Unknown names are no error: a typing error in the worker's part
    /// of a shared file must not stop a recovery.
    pub(super) fn load(whom: &Whom, file: Option<PathBuf>, set: &[String]) -> anyhow::Result<Self> {
        let config = Config::load(sources(whom, file, set)?)?;
        let (clusters, repositories, settings) =
            config.get_tolerant::<(Clusters, Repositories, Fetch)>()?;
        let cluster = match &whom.cluster {
            Some(name) => clusters.get(name),
            None => clusters.only(),
        };
        let Some(cluster) = cluster else {
            bail!("no such cluster is configured, or several are. HINT: say which with --cluster");
        };
        let stores: Vec<&S3Settings> = repositories.iter().map(|one| &one.s3).collect();
        let first = if whom.repositories.is_empty() {
            &settings.repositories
        } else {
            &whom.repositories
        };
        let unknown = first
            .iter()
            .find(|name| stores.iter().all(|store| store.name != **name))
            .filter(|_| whom.repositories.is_empty());
        let note = unknown
            .map(|name| format!("`{name}` in fetch.repositories is no repository: left out"));
        let mut sources: Vec<String> = stores
            .iter()
            .map(|store| format!("{} {} {}", store.name, store.endpoint, store.bucket))
            .collect();
        // The order of asking changes nothing in what a key holds.
        sources.sort_unstable();
        Ok(Self {
            archive: Archive {
                prefix: cluster.prefix.clone(),
                repositories: in_order(stores, first),
            },
            settings,
            note,
            sources,
        })
    }

    /// Where segments are fetched ahead.
    pub(super) fn space(&self, system: SystemId) -> Result<Space, SpaceError> {
        let directory = match &self.settings.directory {
            Some(directory) => directory.clone(),
            None => Space::default_directory(),
        };
        Space::open(&directory, &self.archive.prefix, system, &self.sources)
    }
}

/// With `--repository` the settings of the others are not even read: one that is gone for good
/// may have left neither bucket nor key.
fn sources(whom: &Whom, file: Option<PathBuf>, set: &[String]) -> anyhow::Result<Sources> {
    let mut sources = Sources::of_process().file(file).set(set)?;
    if !whom.repositories.is_empty() {
        let names: Vec<&str> = whom.repositories.iter().map(AsRef::as_ref).collect();
        sources = sources.flag("repositories", "--repository", Some(names.join(",")));
        for name in names {
            // Whether VERIFIED takes a copy in it has nothing to do with reading.
            let setting = format!("repositories.{name}.required");
            sources = sources.flag(&setting, "--repository", Some("true"));
        }
    }
    Ok(sources)
}

/// All of them, those that are named first.
fn in_order(stores: Vec<&S3Settings>, first: &[RepositoryName]) -> Vec<Arc<dyn ReadRepository>> {
    let mut stores = stores;
    stores.sort_by_key(|store| {
        let place = first.iter().position(|name| *name == store.name);
        place.unwrap_or(usize::MAX)
    });
    stores
        .into_iter()
        .map(|store| Arc::new(Lazy::new(store.clone())) as Arc<dyn ReadRepository>)
        .collect()
}
