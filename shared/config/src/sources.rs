use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;

use crate::environment::Environment;
use crate::file::Raw;
use crate::problem::{Problem, Problems};
use crate::setting::settings;

/// Read if it exists and nobody names another file.
pub const DEFAULT_FILE: &str = "/etc/walferry/walferry.toml";

/// Where values may come from, before any of it is looked at.
#[derive(Clone)]
pub struct Sources {
    pub(crate) environment: Environment,
    pub(crate) file: Option<PathBuf>,
    /// Name to value and the flag that gave it.
    pub(crate) flags: BTreeMap<String, (Raw, String)>,
    pub(crate) default_file: Option<PathBuf>,
}

impl Sources {
    pub fn of_process() -> Self {
        Self {
            default_file: Some(PathBuf::from(DEFAULT_FILE)),
            ..Self::new(Environment::of_process())
        }
    }

    /// Nothing but what is given: this machine's `/etc` plays no part.
    pub fn new(environment: impl Into<Environment>) -> Self {
        Self {
            environment: environment.into(),
            file: None,
            flags: BTreeMap::new(),
            default_file: None,
        }
    }

    /// `--config`: wins over `WALFERRY_CONFIG`.
    #[must_use]
    pub fn file(mut self, file: Option<PathBuf>) -> Self {
        self.file = file;
        self
    }

    /// A flag that has a setting behind it, if it was given.
    #[must_use]
    pub fn flag(mut self, name: &str, flag: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            let value = Raw::Text(value.to_string());
            self.flags
                .insert(name.to_owned(), (value, format!("flag {flag}")));
        }
        self
    }

    /// `--set NAME=VALUE`, for every setting but secrets.
    ///
    /// # Errors
    /// An argument without `=`, and a secret: a process list shows arguments.
    pub fn set(mut self, arguments: &[String]) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        for argument in arguments {
            let Some((name, value)) = argument.split_once('=') else {
                // The argument is not repeated: it may be a secret gone astray.
                problems.push(Problem {
                    subject: "flag --set".to_owned(),
                    message: "an argument has no `=`".to_owned(),
                    hint: "write --set NAME=VALUE, for example --set archive.level=7".to_owned(),
                });
                continue;
            };
            if is_secret(name) {
                problems.push(Problem {
                    subject: format!("`{name}` (flag --set)"),
                    message: "a secret cannot be a flag: everybody sees it in the process list"
                        .to_owned(),
                    hint: format!("use the environment, or --set {name}_file=PATH"),
                });
                continue;
            }
            let value = Raw::Text(value.to_owned());
            self.flags
                .insert(name.to_owned(), (value, "flag --set".to_owned()));
        }
        match Problems::collect(problems) {
            Some(problems) => Err(problems),
            None => Ok(self),
        }
    }
}

impl From<HashMap<String, String>> for Sources {
    fn from(environment: HashMap<String, String>) -> Self {
        Self::new(environment)
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("environment", &self.environment)
            .field("file", &self.file)
            .field("flags", &self.flags.keys())
            .finish()
    }
}

fn is_secret(name: &str) -> bool {
    settings()
        .iter()
        .any(|setting| setting.is_secret() && setting.matches(name).is_some())
}
