//! The arrows of ARCHITECTURE.md: which crate may know which. Cargo refuses a
//! `use` without a dependency; this refuses the dependency.

use std::collections::BTreeSet;

use walferry_tests::environment::repository;

/// What each crate may depend on among ours. A new crate needs a row.
const ARROWS: [(&str, &[&str]); 22] = [
    ("shared/proof", &[]),
    ("shared/wal", &[]),
    ("shared/jobs", &[]),
    ("shared/killpoint", &[]),
    ("shared/queue", &["killpoint"]),
    ("shared/observe", &["queue"]),
    ("shared/layout", &["wal", "proof"]),
    ("shared/store", &["proof", "killpoint"]),
    ("shared/catalog", &["wal", "proof", "tls"]),
    ("shared/spool", &["wal", "proof", "killpoint"]),
    ("shared/config", &["wal", "proof", "store", "queue"]),
    (
        "shared/archive",
        &[
            "wal",
            "proof",
            "layout",
            "spool",
            "store",
            "catalog",
            "pack",
            "killpoint",
        ],
    ),
    ("shared/pack", &["proof", "store"]),
    ("shared/replication", &["wal", "tls"]),
    ("shared/tls", &[]),
    (
        "shared/base",
        &[
            "wal",
            "proof",
            "layout",
            "store",
            "pack",
            "replication",
            "killpoint",
        ],
    ),
    (
        "shared/backup",
        &[
            "wal",
            "proof",
            "layout",
            "store",
            "pack",
            "catalog",
            "archive",
            "replication",
            "base",
            "killpoint",
        ],
    ),
    (
        "shared/fetch",
        &["wal", "proof", "layout", "store", "pack", "killpoint"],
    ),
    (
        "shared/retain",
        &[
            "wal",
            "proof",
            "layout",
            "store",
            "catalog",
            "base",
            "killpoint",
        ],
    ),
    ("scheduler", &["config", "jobs", "observe", "queue"]),
    ("worker", EVERYTHING),
    ("cli", EVERYTHING),
];

const EVERYTHING: &[&str] = &[
    "archive",
    "backup",
    "base",
    "catalog",
    "config",
    "fetch",
    "jobs",
    "layout",
    "observe",
    "pack",
    "proof",
    "queue",
    "replication",
    "retain",
    "spool",
    "store",
    "tls",
    "wal",
];

/// Names of the dependencies in a manifest, those of its own tests left out.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let path = repository().join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("dev-dependencies");
        } else if inside && let Some(end) = line.find(['.', ' ', '=']) {
            names.insert(line[..end].to_owned());
        }
    }
    names
}

#[test]
fn a_crate_knows_only_those_that_its_arrows_lead_to() {
    for (folder, allowed) in ARROWS {
        let found: BTreeSet<String> = dependencies(folder)
            .iter()
            .filter_map(|name| Some(name.strip_prefix("walferry-")?.to_owned()))
            .collect();
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let forbidden: Vec<_> = found.difference(&allowed).collect();
        assert!(
            forbidden.is_empty(),
            "{folder} must not depend on {forbidden:?}"
        );
    }
}

#[test]
fn every_crate_that_is_shipped_has_its_arrows_written_down() {
    let shared = std::fs::read_dir(repository().join("shared")).expect("list shared");
    for entry in shared.flatten() {
        let folder = format!("shared/{}", entry.file_name().to_string_lossy());
        assert!(
            ARROWS.iter().any(|(known, _)| *known == folder),
            "{folder} has no row"
        );
    }
}

#[test]
fn no_shipped_program_contains_a_server_of_the_tests() {
    for (folder, _) in ARROWS {
        let names = dependencies(folder);
        assert!(
            !names.is_empty() || folder == "shared/proof",
            "{folder}: nothing was read"
        );
        for server in ["walferry-s3", "s3s", "s3s-fs", "walferry-tests"] {
            assert!(!names.contains(server), "{folder} depends on {server}");
        }
    }
}

/// A dependency is in the build of everybody who builds us: each is named by a source file.
#[test]
fn a_crate_depends_on_nothing_that_it_does_not_use() {
    let unused: Vec<String> = ARROWS
        .iter()
        .flat_map(|(folder, _)| {
            let mut sources = String::new();
            visit(&repository().join(folder).join("src"), &mut |_, text| {
                sources.push_str(text);
            });
            let used = move |name: &String| {
                // The library of `md-5` is `md5`.
                ["_", ""]
                    .map(|dash| name.replace('-', dash))
                    .iter()
                    .any(|path| {
                        sources.contains(&format!("{path}::"))
                            || sources.contains(&format!("use {path}"))
                    })
            };
            dependencies(folder)
                .into_iter()
                .filter(move |name| !used(name))
                .map(move |name| format!("{folder}: {name}"))
        })
        .collect();
    assert!(unused.is_empty(), "not used: {unused:#?}");
}

#[test]
fn the_store_knows_nothing_of_wal_and_the_queue_nothing_of_archiving() {
    for (folder, words) in [
        ("shared/store/src", ["walferry_wal", "walferry_catalog"]),
        ("shared/queue/src", ["walferry_archive", "walferry_jobs"]),
    ] {
        let mut files = 0;
        visit(&repository().join(folder), &mut |path, text| {
            files += 1;
            for word in words {
                assert!(!text.contains(word), "{} names {word}", path.display());
            }
        });
        assert!(files > 3, "{folder}: {files} files were read");
    }
}

/// Time is Redis's for jobs and the catalog's for claims: workers may be minutes apart. An
/// `Instant` only measures how long something took here.
#[test]
fn no_clock_of_a_worker_decides_about_jobs_or_claims() {
    for folder in ["shared/queue/src", "shared/catalog/src"] {
        visit(&repository().join(folder), &mut |path, text| {
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for clock in ["Utc::now", "Local::now", "SystemTime::now", "UNIX_EPOCH"] {
                assert!(!text.contains(clock), "{} reads {clock}", path.display());
            }
        });
    }
}

/// Files of the pipeline that hash, pack or unpack, each on the packing threads alone.
const HEAVY: [(&str, &[&str]); 6] = [
    ("packer.add(", &["local.rs", "packing.rs"]),
    ("= read_hashed(", &["local.rs"]),
    (
        "walferry_proof::md5(",
        &["local.rs", "owner.rs", "small.rs", "packing.rs", "copy.rs"],
    ),
    ("packing.step(", &["stream.rs"]),
    ("unpacker.feed(", &["unpack.rs", "heal.rs"]),
    ("unpacker.finish()", &["unpack.rs", "heal.rs"]),
];

/// `text` without its tests and without what is handed to the packing threads.
fn on_the_runtime(text: &str) -> String {
    let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut rest = shipped;
    let mut left = String::new();
    while let Some((before, after)) = rest.split_once(".run(move |") {
        left.push_str(before);
        // The closure ends where the parenthesis that holds it is closed.
        let mut open = 1;
        let end = after.find(|sign| {
            open += match sign {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            open == 0
        });
        rest = &after[end.expect("a closed parenthesis")..];
    }
    left + rest
}

#[test]
fn hashing_and_packing_are_never_done_on_the_async_runtime() {
    for (call, files) in HEAVY {
        let mut found = BTreeSet::new();
        let mut look = |path: &std::path::Path, text: &str| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
            if shipped.contains(call) {
                found.insert(name.clone().into_owned());
            }
            // JSON: a mark of ownership, what a base is made of.
            let exempt = path.ends_with("owner.rs") || path.ends_with("small.rs");
            assert!(
                exempt || !on_the_runtime(text).contains(call),
                "{name} calls {call} on the async runtime"
            );
        };
        for folder in ["shared/archive/src", "shared/pack/src", "shared/base/src"] {
            visit(&repository().join(folder), &mut look);
        }
        let files: BTreeSet<String> = files.iter().map(|file| (*file).to_owned()).collect();
        assert_eq!(found, files, "{call}");
    }
}

fn visit(folder: &std::path::Path, look: &mut dyn FnMut(&std::path::Path, &str)) {
    for entry in std::fs::read_dir(folder).expect("list a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            visit(&path, look);
        } else if path.extension().is_some_and(|end| end == "rs") {
            look(
                &path,
                &std::fs::read_to_string(&path).expect("read a source file"),
            );
        }
    }
}
