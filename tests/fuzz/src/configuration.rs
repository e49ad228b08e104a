//! The configuration file and the environment.

use std::collections::HashMap;
use std::path::Path;

use walferry_config::{Config, Sources};

/// The line between the file's text and the rest.
const ENVIRONMENT: &str = "=== environment";

/// A TOML file; after a line `=== environment` a variable on each line, or `--set` and an
/// argument.
pub(crate) fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (file, rest) = text.split_once(ENVIRONMENT).unwrap_or((text, ""));
    let (set, variables): (Vec<&str>, Vec<&str>) =
        rest.lines().partition(|line| line.starts_with("--set "));
    let variables: HashMap<String, String> = variables
        .iter()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| *name != "WALFERRY_CONFIG")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let set: Vec<String> = set.iter().map(|line| line[6..].to_owned()).collect();
    let Ok(sources) = Sources::new(variables).set(&set) else {
        return;
    };
    let config = match Config::of_text(sources, Path::new("walferry.toml"), file) {
        Ok(config) => config,
        Err(problems) => return assert!(problems.iter().count() > 0),
    };
    for line in config.effective() {
        if line.secret {
            secret_is_not_shown(&line.value);
        }
    }
    // A secret's own file would be read, and a device in its place waited for.
    if text.to_ascii_lowercase().contains("_file") {
        return;
    }
    if let Err(problems) = config.check() {
        assert!(problems.iter().count() > 0);
        assert!(problems.to_string().contains("HINT"), "{problems}");
    }
    let (worker, scheduler, push) = (config.worker(), config.scheduler(), config.push());
    if config.check().is_ok() {
        assert!(worker.is_ok() && scheduler.is_ok() && push.is_ok());
    }
}

/// A secret is three stars, or a URL with three stars for whatever may be one.
fn secret_is_not_shown(value: &str) {
    let at = value.rsplit_once('@').map_or("", |(before, _)| before);
    let user = at.rsplit_once("://").map_or(at, |(_, user)| user);
    assert!(matches!(user, "" | "***"), "{value}");
    let query = value.split_once('?').map_or("***", |(_, query)| query);
    assert_eq!(query, "***", "{value}");
}
