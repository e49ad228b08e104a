//! Whole configurations, in and out.

mod clusters;
mod documentation;
mod layers;
mod problems;
mod repositories;
mod secrets;
mod values;

use std::collections::HashMap;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::{Config, Problems, Section, Sources};

/// What the old system has in its environment, and nothing else.
pub(crate) const OLD_SYSTEM: [(&str, &str); 12] = [
    (
        "CLOUDFLARE_R2_ENDPOINT_URL",
        "https://account.r2.cloudflarestorage.com",
    ),
    ("CLOUDFLARE_R2_ACCESS_KEY_ID", "r2-key"),
    ("CLOUDFLARE_R2_SECRET_ACCESS_KEY", "r2-secret"),
    ("CLOUDFLARE_R2_BUCKET", "wal-at-r2"),
    (
        "BACKBLAZE_B2_ENDPOINT_URL",
        "https://s3.us-east-005.backblazeb2.com",
    ),
    ("BACKBLAZE_B2_KEY_ID", "b2-key"),
    ("BACKBLAZE_B2_APPLICATION_KEY", "b2-secret"),
    ("BACKBLAZE_B2_BUCKET", "wal-at-b2"),
    ("DATABASE_URL", "postgres://walferry:pw@catalog/walferry"),
    ("REDIS_URL", "redis://redis:6379/0"),
    ("WAL_ARCHIVE_DIR", "/srv/wal"),
    ("PATH", "/usr/bin"),
];

/// A configuration under construction.
pub(crate) struct Given {
    environment: HashMap<String, String>,
    file: Option<String>,
    set: Vec<String>,
    /// Where the file lies, and secrets may.
    pub(crate) directory: TempDir,
}

impl Given {
    pub(crate) fn nothing() -> Self {
        Self {
            environment: HashMap::new(),
            file: None,
            set: Vec::new(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn old_system() -> Self {
        OLD_SYSTEM
            .iter()
            .fold(Self::nothing(), |given, (name, value)| {
                given.variable(name, value)
            })
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.environment.remove(name).expect("it was there");
        self
    }

    pub(crate) fn file(mut self, text: &str) -> Self {
        self.file = Some(text.to_owned());
        self
    }

    pub(crate) fn set(mut self, argument: &str) -> Self {
        self.set.push(argument.to_owned());
        self
    }

    /// Writes a file beside the configuration and returns its path.
    pub(crate) fn secret_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn load(&self) -> Result<Config, Problems> {
        let path = self
            .file
            .as_ref()
            .map(|text| self.secret_file("walferry.toml", text));
        Config::load(
            Sources::new(self.environment.clone())
                .file(path)
                .set(&self.set)?,
        )
    }

    pub(crate) fn get<S: Section>(&self) -> Result<S, Problems> {
        self.load()?.get()
    }

    /// The problems with everything, with paths that do not change.
    pub(crate) fn problems(&self) -> String {
        let problems = match self.load() {
            Ok(config) => config.check().expect_err("the configuration is wrong"),
            Err(problems) => problems,
        };
        self.stable(&problems.to_string())
    }

    pub(crate) fn stable(&self, text: &str) -> String {
        text.replace(self.directory.path().to_str().unwrap(), "<DIRECTORY>")
    }
}
