//! The kill points, collected from the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use walferry_tests::environment::repository;

use crate::sweep;

/// The names of all points, sorted. No list is kept by hand.
pub(crate) fn collected() -> BTreeSet<String> {
    places().into_keys().collect()
}

/// Each name is there once, has the form `part.step[.moment]`, and a scenario by its part.
pub(crate) fn check() {
    let places = places();
    assert!(places.len() > 50, "only {} points were found", places.len());
    for (name, files) in places {
        assert_eq!(
            files.len(),
            1,
            "{name} is the name of several points: {files:?}"
        );
        let words = name.split('.').all(|word| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        });
        assert!(
            words && name.contains('.'),
            "`{name}` in {files:?} has no name like push.rename.after"
        );
        assert!(
            sweep::scenario(&name).is_some(),
            "no scenario reaches {name} in {files:?}. HINT: add one to tests/tests/faults/sweep"
        );
    }
}

fn places() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for folder in ["shared", "worker", "scheduler", "cli"] {
        visit(&repository().join(folder), &mut found);
    }
    found
}

fn visit(folder: &Path, found: &mut BTreeMap<String, Vec<String>>) {
    for entry in std::fs::read_dir(folder)
        .expect("list the source")
        .flatten()
    {
        let path = entry.path();
        // The macro itself and its documentation.
        if path.ends_with("shared/killpoint") {
            continue;
        }
        if path.is_dir() {
            visit(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("read the source");
            for rest in text.split("kill_point!(\"").skip(1) {
                let name = rest.split('"').next().unwrap_or_default();
                found
                    .entry(name.to_owned())
                    .or_default()
                    .push(path.display().to_string());
            }
        }
    }
}
