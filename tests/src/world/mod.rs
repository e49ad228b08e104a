//! A world: everything a test needs around the programs under test.

mod build;
mod check;
mod handover;
mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

pub use build::WorldBuilder;
pub use handover::{Intake, place_file};
pub use program::Program;

use crate::clock::Clock;
use crate::clouds::Cloud;
use crate::originals::Originals;
use crate::postgres::Postgres;
use crate::process::{self, Finished};
use crate::redis_server::RedisServer;
use crate::scratch::Scratch;
use crate::users::User;

/// Catalog, Redis, clouds, an archive directory, and the programs started in it.
///
/// Dropped, it asks the programs to end, and fails the test if they do not end
/// well or leave a claim behind; [`World::expect_leftover_claims`] says that a
/// test wants that. A failed test prints the ends of all logs.
#[derive(Debug)]
pub struct World {
    programs: std::cell::RefCell<Vec<Program>>,
    clouds: Vec<Cloud>,
    redis: Option<RedisServer>,
    catalog: Option<Postgres>,
    originals: Originals,
    settings: BTreeMap<String, String>,
    leftover_claims: bool,
    user: User,
    clock: Option<Clock>,
    scratch: Scratch,
    runtime: Runtime,
}

impl World {
    /// Catalog migrated, Redis, r2 on SeaweedFS and b2 on s3s.
    #[track_caller]
    pub fn new() -> World {
        World::builder().build()
    }

    /// A world of one's own making.
    pub fn builder() -> WorldBuilder {
        WorldBuilder::default()
    }

    /// A cloud by its repository's name, `r2` or `b2`.
    #[track_caller]
    pub fn cloud(&self, name: &str) -> &Cloud {
        self.clouds
            .iter()
            .find(|cloud| cloud.name() == name)
            .unwrap_or_else(|| panic!("the world has no cloud `{name}`"))
    }

    /// The same, to stop its server.
    #[track_caller]
    pub fn cloud_mut(&mut self, name: &str) -> &mut Cloud {
        self.clouds
            .iter_mut()
            .find(|cloud| cloud.name() == name)
            .unwrap_or_else(|| panic!("the world has no cloud `{name}`"))
    }

    /// Every cloud.
    pub fn clouds(&self) -> &[Cloud] {
        &self.clouds
    }

    /// The server that holds the catalog.
    #[track_caller]
    pub fn catalog(&self) -> &Postgres {
        self.catalog
            .as_ref()
            .expect("the world was built with a catalog")
    }

    /// The same, to stop and start it.
    #[track_caller]
    pub fn catalog_mut(&mut self) -> &mut Postgres {
        self.catalog
            .as_mut()
            .expect("the world was built with a catalog")
    }

    /// Rows of the catalog.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.catalog().query_in(build::CATALOG, sql)
    }

    /// One number out of the catalog.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(sql);
        rows.first()
            .and_then(|row| row.first()?.as_ref()?.parse().ok())
            .unwrap_or_else(|| panic!("one number awaited from `{sql}`, got {rows:?}"))
    }

    /// Redis.
    #[track_caller]
    pub fn redis(&self) -> &RedisServer {
        self.redis.as_ref().expect("the world was built with Redis")
    }

    /// Redis, to kill and start it.
    #[track_caller]
    pub fn redis_mut(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("the world was built with Redis")
    }

    /// What was handed over so far.
    pub fn originals(&self) -> &Originals {
        &self.originals
    }

    /// The same, to add what the world did not see.
    pub fn originals_mut(&mut self) -> &mut Originals {
        &mut self.originals
    }

    /// The world's folder.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The archive directory.
    pub fn archive(&self) -> PathBuf {
        self.folder().join("archive")
    }

    /// Names in the archive directory.
    #[track_caller]
    pub fn archived_files(&self) -> Vec<String> {
        self.files_in(&self.archive())
    }

    /// Names in another directory.
    #[track_caller]
    pub fn files_in(&self, directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap_or_else(|error| panic!("list {}: {error}", directory.display()))
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Where PostgreSQL's user finds a shipped program.
    pub fn program_path(&self, name: &str) -> PathBuf {
        self.folder().join("bin").join(name)
    }

    /// The runtime that the proxies live on, for tests of async libraries.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Changes a setting for programs started from now on: `archive.level`.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(variable(name), value.into());
    }

    /// Changes an environment variable for programs started from now on; an
    /// empty value removes it.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.settings.remove(name);
        } else {
            self.settings.insert(name.into(), value.into());
        }
    }

    /// The environment that programs are started with.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// Runs `walferry` with these arguments to its end, in the world's
    /// environment, as walferry's user.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Finished {
        let mut command = self.user.command(self.program_path("walferry"));
        process::environment(&mut command, &self.settings);
        process::run(command.current_dir(self.folder()).args(arguments))
    }

    /// This test leaves claims behind on purpose, or programs that do not end.
    pub fn expect_leftover_claims(&mut self) {
        self.leftover_claims = true;
    }
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

/// `archive.level` is `WALFERRY_ARCHIVE_LEVEL` in the environment.
fn variable(setting: &str) -> String {
    format!("WALFERRY_{}", setting.to_uppercase().replace('.', "_"))
}
