//! The PostgreSQL clusters that hand over WAL.
//!
//! Reads: `WALFERRY_CLUSTERS`, `WALFERRY_CLUSTERS_<NAME>_PREFIX`,
//! `…_DIRECTORIES` (of `main` also `WAL_ARCHIVE_DIR`), `…_QUEUE`,
//! `…_CONNECTION` (and `…_CONNECTION_FILE`), `…_REPLICATION` (and
//! `…_REPLICATION_FILE`); for base backups also libpq's own variables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use walferry_proof::KeyPrefix;
use walferry_queue::QueueName;

use crate::config::Config;
use crate::problem::Refusal;
use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value;

static NAMES: Setting = Setting::new(
    "clusters",
    "the clusters by name; without it those that the file has sections for, or `main` alone",
);
static PREFIX: Setting = Setting::new("clusters.*.prefix", "what its object keys begin with")
    .default_by_name(&[("main", "wal/")]);
static DIRECTORIES: Setting = Setting::new(
    "clusters.*.directories",
    "its archive directories, each `NAME=PATH`; a path alone is named `main`",
)
.default_by_name(&[("main", "/var/lib/postgresql/wal_archive")])
.old(&[("main", OLD_DIRECTORY)]);
static QUEUE: Setting = Setting::new(
    "clusters.*.queue",
    "the queue of its jobs; without it `queue.name`",
);
static CONNECTION: Setting = Setting::new(
    "clusters.*.connection",
    "the protected server as a postgres:// URL, for `check` and `status`; without it RPO is unknown",
)
.secret_url();

static REPLICATION: Setting = Setting::new(
    "clusters.*.replication",
    "the server that base backups are taken from as a postgres:// URL, its user with REPLICATION, a standby if you like; without it `clusters.*.connection`, without both and with one cluster libpq's own PGHOST, PGPORT, PGUSER, PGPASSFILE and so on",
)
.secret_url();

pub(crate) const SETTINGS: &[&Setting] = &[
    &NAMES,
    &PREFIX,
    &DIRECTORIES,
    &QUEUE,
    &CONNECTION,
    &REPLICATION,
];

const OLD_DIRECTORY: &str = "WAL_ARCHIVE_DIR";

/// At least one cluster; no two share a prefix or a directory, in whole or in
/// part.
#[derive(Clone, Debug)]
pub struct Clusters(Vec<Cluster>);

#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: String,
    /// Ends in `/`; no other cluster's begins with it.
    pub prefix: KeyPrefix,
    /// At least one.
    pub directories: Vec<ArchiveDirectory>,
    pub queue: QueueName,
}

/// The protected servers that somebody may ask, by cluster. Apart from
/// [`Clusters`], so that `push` and the scheduler, which ask nobody, read no
/// secret: archiving would stop with a password file that only monitoring needs.
#[derive(Clone, Debug)]
pub struct Connections {
    connections: BTreeMap<String, SecretString>,
    replications: BTreeMap<String, SecretString>,
    libpq: Libpq,
}

/// libpq's own variables as this process has them. `Debug` shows none: one is a password.
#[derive(Clone, Default)]
pub struct Libpq(BTreeMap<String, String>);

/// Where `push` may store.
#[derive(Clone, Debug)]
pub struct PushDirectories(pub Vec<ArchiveDirectory>);

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ArchiveDirectory {
    /// Unique within its cluster.
    pub name: String,
    /// Absolute.
    pub path: PathBuf,
}

impl Clusters {
    pub fn iter(&self) -> impl Iterator<Item = &Cluster> {
        self.0.iter()
    }

    pub fn get(&self, name: &str) -> Option<&Cluster> {
        self.0.iter().find(|cluster| cluster.name == name)
    }

    /// The cluster, if there is but one.
    pub fn only(&self) -> Option<&Cluster> {
        match self.0.as_slice() {
            [cluster] => Some(cluster),
            _ => None,
        }
    }

    /// The queues of all clusters, each once.
    pub fn queues(&self) -> Vec<QueueName> {
        let mut queues: Vec<QueueName> = Vec::new();
        for cluster in &self.0 {
            if !queues.contains(&cluster.queue) {
                queues.push(cluster.queue.clone());
            }
        }
        queues
    }
}

impl Section for Clusters {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let named = reader.list(&NAMES, value::name);
        let names = names(reader.config());
        refuse_homeless_directory(reader, &names);
        let clusters: Vec<Option<Cluster>> =
            names.iter().map(|name| cluster(reader, name)).collect();
        let clusters: Option<Vec<Cluster>> = clusters.into_iter().collect();
        named?;
        let clusters = clusters?;
        disjoint(reader, &clusters).then_some(Self(clusters))
    }
}

impl Connections {
    /// The server to ask for figures.
    pub fn get(&self, cluster: &str) -> Option<&SecretString> {
        self.connections.get(cluster)
    }

    /// The server to take base backups from.
    pub fn replication(&self, cluster: &str) -> Option<&SecretString> {
        let own = self.replications.get(cluster);
        own.or_else(|| self.get(cluster))
    }

    /// Where base backups come from when no URL is configured.
    pub fn libpq(&self) -> &Libpq {
        &self.libpq
    }
}

impl Libpq {
    /// All of them, and `HOME`, below which libpq looks for `.pgpass`.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Whether they name a server. `PGUSER` alone names none: a database program has it set.
    pub fn names_server(&self) -> bool {
        ["PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE"]
            .iter()
            .any(|name| self.0.contains_key(*name))
    }
}

impl std::fmt::Debug for Libpq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Libpq({} variables)", self.0.len())
    }
}

impl Section for Connections {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let libpq = Libpq(reader.config().environment().of_libpq());
        let connections = urls(reader, &CONNECTION);
        let replications = urls(reader, &REPLICATION);
        Some(Self {
            connections: connections?,
            replications: replications?,
            libpq,
        })
    }
}

/// The URL of each cluster that has one.
fn urls(
    reader: &mut Reader<'_>,
    setting: &'static Setting,
) -> Option<BTreeMap<String, SecretString>> {
    let mut good = true;
    let mut urls = BTreeMap::new();
    for name in names(reader.config()) {
        match reader.secret(setting.of(&name), super::catalog::postgres_url) {
            Some(Some(url)) => drop(urls.insert(name, url)),
            Some(None) => {}
            None => good = false,
        }
    }
    good.then_some(urls)
}

impl Section for PushDirectories {
    /// A flag, or the variable in PostgreSQL's own environment, says which
    /// directory is this server's; the clusters of a shared file are then
    /// nobody's business here.
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let config = reader.config();
        let mut told = config.flagged(&DIRECTORIES);
        if told.is_empty() && config.environment().mentions(OLD_DIRECTORY) {
            told.push("main".to_owned());
        }
        if told.is_empty() {
            let clusters = Clusters::read(reader)?.0;
            let directories = clusters.into_iter().flat_map(|cluster| cluster.directories);
            return Some(Self(directories.collect()));
        }
        let lists: Vec<Option<Vec<ArchiveDirectory>>> = told
            .iter()
            .map(|name| reader.list(DIRECTORIES.of(name), directory)?)
            .collect();
        let lists: Option<Vec<Vec<ArchiveDirectory>>> = lists.into_iter().collect();
        Some(Self(lists?.concat()))
    }
}

/// The names of the clusters, valid or not.
pub(crate) fn names(config: &Config) -> Vec<String> {
    super::selected(config, &NAMES).unwrap_or_else(|| {
        let mentioned = config.mentioned("clusters");
        if mentioned.is_empty() {
            vec!["main".to_owned()]
        } else {
            mentioned.into_iter().map(str::to_owned).collect()
        }
    })
}

fn cluster(reader: &mut Reader<'_>, name: &str) -> Option<Cluster> {
    let good_name = match value::name(name) {
        Ok(name) => Some(name),
        Err(refusal) => {
            reader.problem(&format!("`clusters.{name}`"), refusal.message, refusal.hint);
            None
        }
    };
    let prefix = reader.value(PREFIX.of(name), prefix);
    let directories = reader.list(DIRECTORIES.of(name), directory);
    let queue = match reader.optional(QUEUE.of(name), super::queue::name) {
        Some(Some(queue)) => Some(queue),
        Some(None) => reader.value(&super::queue::NAME, super::queue::name),
        None => None,
    };
    let directories = match directories? {
        Some(directories) => directories,
        None => {
            let subject = format!("`clusters.{name}.directories`");
            reader.problem(
                &subject,
                "not set",
                "name the directory that this cluster archives into",
            );
            return None;
        }
    };
    Some(Cluster {
        name: good_name?,
        prefix: prefix?,
        directories: unique(reader, name, directories)?,
        queue: queue?,
    })
}

fn prefix(text: &str) -> Result<KeyPrefix, Refusal> {
    text.parse()
        .map_err(|error| Refusal::new(format!("{error}"), "write it as wal/"))
}

fn directory(text: &str) -> Result<ArchiveDirectory, Refusal> {
    let (name, path) = match text.split_once('=') {
        Some((name, path)) if !text.starts_with('/') => (value::name(name.trim())?, path.trim()),
        _ => ("main".to_owned(), text),
    };
    Ok(ArchiveDirectory {
        name,
        path: value::absolute_path(path)?,
    })
}

fn unique(
    reader: &mut Reader<'_>,
    cluster: &str,
    directories: Vec<ArchiveDirectory>,
) -> Option<Vec<ArchiveDirectory>> {
    let subject = reader.subject(DIRECTORIES.of(cluster));
    if directories.is_empty() {
        reader.problem(&subject, "no directory", "name at least one");
        return None;
    }
    let mut good = true;
    for (i, directory) in directories.iter().enumerate() {
        if directories[..i]
            .iter()
            .any(|other| other.name == directory.name)
        {
            reader.problem(
                &subject,
                format!("two directories are named `{}`", directory.name),
                "name each: old=/path/one, new=/path/two",
            );
            good = false;
        }
    }
    good.then_some(directories)
}

/// Two clusters in one prefix would overwrite each other's segments, whose
/// names are equal; in one directory neither could tell whose a file is.
fn disjoint(reader: &mut Reader<'_>, clusters: &[Cluster]) -> bool {
    let mut good = true;
    for (i, cluster) in clusters.iter().enumerate() {
        for other in &clusters[..i] {
            let (a, b) = (cluster.prefix.as_str(), other.prefix.as_str());
            if a.starts_with(b) || b.starts_with(a) {
                let subject = reader.subject(PREFIX.of(&cluster.name));
                reader.problem(
                    &subject,
                    format!("`{a}` overlaps `{b}` of cluster `{}`", other.name),
                    "give each cluster a prefix that no other one begins with",
                );
                good = false;
            }
        }
    }
    let directories: Vec<(&Cluster, &ArchiveDirectory)> = clusters
        .iter()
        .flat_map(|cluster| cluster.directories.iter().map(move |d| (cluster, d)))
        .collect();
    for (i, (cluster, directory)) in directories.iter().enumerate() {
        for (other_cluster, other) in &directories[..i] {
            let (a, b) = (&directory.path, &other.path);
            if a.starts_with(b) || b.starts_with(a) {
                let subject = reader.subject(DIRECTORIES.of(&cluster.name));
                reader.problem(
                    &subject,
                    format!(
                        "`{}` overlaps `{}` of cluster `{}`",
                        a.display(),
                        b.display(),
                        other_cluster.name
                    ),
                    "give each cluster and server a directory of its own, none inside another",
                );
                good = false;
            }
        }
    }
    good
}

/// The old variable names the directory of `main`; set for nobody it would be
/// dropped in silence, and with it a directory full of WAL.
fn refuse_homeless_directory(reader: &mut Reader<'_>, names: &[String]) {
    let set = reader.config().environment().get(OLD_DIRECTORY).is_some();
    if set && !names.iter().any(|name| name == "main") {
        reader.problem(
            &format!("`{OLD_DIRECTORY}` (environment)"),
            "no cluster is named `main`",
            format!(
                "set directories under [clusters.{}] instead",
                names.join("], [clusters.")
            ),
        );
    }
}
