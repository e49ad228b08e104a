use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// Environment variables, as a value: tests never touch their own process.
///
/// A variable that is empty counts as not set: compose files pass
/// `NAME=${NAME:-}`.
#[derive(Clone, Default)]
pub struct Environment {
    values: HashMap<String, String>,
    not_text: BTreeSet<String>,
}

impl Environment {
    /// The environment of this process: the only place that reads it.
    pub fn of_process() -> Self {
        let mut environment = Self::default();
        #[expect(clippy::disallowed_methods, reason = "its one home")]
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else {
                continue;
            };
            if let Ok(value) = value.into_string() {
                environment.values.insert(name, value);
            } else {
                // Told when a setting asks for it: with its odd bytes replaced
                // a secret would be a different, wrong one.
                environment.not_text.insert(name);
            }
        }
        environment
    }

    #[cfg(test)]
    pub(crate) fn with_bytes_that_are_not_text(mut self, name: &str) -> Self {
        self.not_text.insert(name.to_owned());
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name)?;
        (!value.trim().is_empty()).then_some(value.as_str())
    }

    /// Whether it says anything, text or not.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        self.get(name).is_some() || self.is_not_text(name)
    }

    pub(crate) fn is_not_text(&self, name: &str) -> bool {
        self.not_text.contains(name)
    }

    /// What libpq reads, and the home below which it looks for a password file.
    pub(crate) fn of_libpq(&self) -> BTreeMap<String, String> {
        self.values
            .iter()
            .filter(|(name, _)| name.starts_with("PG") || *name == "HOME")
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// The names that look as if they were meant for us.
    pub(crate) fn ours(&self) -> BTreeSet<&str> {
        self.values
            .keys()
            .chain(&self.not_text)
            .map(String::as_str)
            .filter(|name| name.starts_with("WALFERRY_") && !of_others(name))
            .collect()
    }
}

impl From<HashMap<String, String>> for Environment {
    fn from(values: HashMap<String, String>) -> Self {
        Self {
            values,
            not_text: BTreeSet::new(),
        }
    }
}

/// Values may be secrets, so none is shown.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.values.len())
    }
}

const OF_COMPOSE: [&str; 4] = [
    "WALFERRY_IMAGE",
    "WALFERRY_DB_IMAGE",
    "WALFERRY_SECRETS",
    "WALFERRY_WEED",
];

/// Variables that begin as ours do and are not: Kubernetes and `docker --link`
/// set some for each service in reach (`WALFERRY_WORKER_PORT_9847_TCP=…` for a
/// service `walferry-worker`), and refusing those would keep every pod from
/// starting. Compose files, tests and the demo read some of their own, which may
/// be exported in the shell that starts us.
fn of_others(name: &str) -> bool {
    let port = name.find("_PORT").is_some_and(|at| {
        let rest = &name[at + "_PORT".len()..];
        let numbered = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
        rest.is_empty() || rest.strip_prefix('_').is_some_and(numbered)
    });
    port || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.starts_with("WALFERRY_TEST_")
        || name.starts_with("WALFERRY_DEMO_")
        || name.starts_with("WALFERRY_S3_")
        || OF_COMPOSE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_an_orchestrator_sets_for_a_service_are_not_ours() {
        for name in [
            "WALFERRY_WORKER_PORT",
            "WALFERRY_WORKER_PORT_9847_TCP_ADDR",
            "WALFERRY_WORKER_SERVICE_HOST",
            "WALFERRY_WORKER_SERVICE_PORT",
            "WALFERRY_WORKER_SERVICE_PORT_HTTP",
            "WALFERRY_TEST_ONLY",
            "WALFERRY_IMAGE",
        ] {
            assert!(of_others(name), "{name}");
        }
        for name in [
            "WALFERRY_WORKER_SLOTS",
            "WALFERRY_ARCHIVE_LEVL",
            "WALFERRY_WORKER_PORTS",
        ] {
            assert!(!of_others(name), "{name}");
        }
    }
}
