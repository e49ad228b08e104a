//! The kept corpus, and bytes at random, through every target.

use std::path::{Path, PathBuf};

use crate::{TARGETS, check};
use proptest::prelude::*;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = folder("corpus").join(name);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .map(|path| {
            (
                path.clone(),
                std::fs::read(&path).expect("a file of the corpus"),
            )
        })
        .collect()
}

#[test]
fn every_file_of_the_kept_corpus_goes_through_its_target() {
    for (name, target) in TARGETS {
        let files = files(name);
        assert!(files.len() >= 3, "{name}: {} files", files.len());
        for (path, bytes) in files {
            // Named before it is tried: a stack that overflows says nothing afterwards.
            println!("{}", path.display());
            target(&bytes);
        }
    }
}

#[test]
fn every_target_is_one_of_the_fuzzers() {
    let mut found: Vec<String> = std::fs::read_dir(folder("libfuzzer/fuzz_targets"))
        .expect("list the fuzzer's targets")
        .flatten()
        .map(|entry| entry.path())
        .map(|path| {
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    found.sort();
    let mut names = TARGETS.map(|(name, _)| name);
    names.sort_unstable();
    assert_eq!(found, names);
    let manifest = std::fs::read_to_string(folder("libfuzzer/Cargo.toml")).expect("its manifest");
    for name in names {
        let line = format!("name = \"{name}\"");
        assert!(manifest.contains(&line), "{name}");
        let path = folder("libfuzzer/fuzz_targets").join(format!("{name}.rs"));
        let target = std::fs::read_to_string(&path).expect("a target");
        assert!(target.contains(&format!("check(\"{name}\"")), "{name}");
    }
}

/// Name and version of every package in a lock file.
fn packages(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let blocks = text.split("[[package]]").skip(1);
    blocks
        .map(|block| {
            let value = |key: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(key));
                line.unwrap_or_default()
                    .trim_matches(['=', ' ', '"'])
                    .to_owned()
            };
            format!("{} {}", value("name"), value("version"))
        })
        .collect()
}

/// The parsers are fuzzed without a runtime, a client or TLS: they build in seconds, and what
/// the fuzzer covers is ours.
#[test]
fn the_parsers_build_without_the_heavy_dependencies() {
    let packages = packages(&folder("libfuzzer/Cargo.lock"));
    let has = |name: &str| {
        packages
            .iter()
            .any(|package| package.split(' ').next() == Some(name))
    };
    for light in [
        "walferry-wal",
        "walferry-queue",
        "walferry-store",
        "quick-xml",
        "toml",
    ] {
        assert!(has(light), "{light}");
    }
    for heavy in [
        "apalis",
        "aws-lc-rs",
        "diesel",
        "hyper",
        "object_store",
        "redis",
        "reqwest",
        "rustls",
        "tokio",
    ] {
        assert!(!has(heavy), "{heavy}");
    }
}

#[test]
fn what_is_fuzzed_is_what_is_shipped() {
    let shipped = packages(&folder("../../Cargo.lock"));
    let only_here = ["walferry-libfuzzer", "libfuzzer-sys", "arbitrary"];
    for package in packages(&folder("libfuzzer/Cargo.lock")) {
        let name = package.split(' ').next().unwrap_or_default();
        assert!(
            shipped.contains(&package) || only_here.contains(&name),
            "{package} is not in ../../Cargo.lock. HINT: cp Cargo.lock tests/fuzz/libfuzzer/ and \
             run `cargo metadata` there"
        );
    }
}

proptest! {
    #[test]
    fn bytes_at_random_break_no_parser(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for (name, _) in TARGETS {
            check(name, &bytes);
        }
    }

    /// A file of the corpus with a few bytes other than they were: much nearer to what a
    /// parser accepts than bytes at random.
    #[test]
    fn a_changed_file_of_the_corpus_breaks_no_parser(
        target in 0..TARGETS.len(),
        file: prop::sample::Index,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut: Option<prop::sample::Index>,
    ) {
        let (name, target) = TARGETS[target];
        let files = files(name);
        let mut bytes = files[file.index(files.len())].1.clone();
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        target(&bytes);
    }
}
