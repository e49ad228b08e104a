//! The only place of the harness that reads this process's environment.
//!
//! - `WALFERRY_TEST_PG_BIN`: folder of PostgreSQL's programs (default: Debian's of 15, else
//!   any other from 14 to 18, else what `pg_config` names)
//! - `WALFERRY_WEED`: SeaweedFS's `weed` (default: where `tests/install` puts it)
//! - `WALFERRY_TEST_KEEP`: keep the folders of failed tests
//! - `WALFERRY_TEST_MUTANT`: which promise is broken in this run (`tests/mutants/run`);
//!   handed on to every program that a world starts

use std::path::{Path, PathBuf};

/// Folder of `initdb`, `postgres`, `pgbench`.
pub fn postgres_bin() -> PathBuf {
    variable("WALFERRY_TEST_PG_BIN").map_or_else(found_postgres, Into::into)
}

fn found_postgres() -> PathBuf {
    let debian = [15, 16, 17, 18, 14]
        .map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")))
        .into_iter()
        .find(|folder| folder.join("postgres").exists());
    let elsewhere = || {
        let asked = std::process::Command::new("pg_config")
            .arg("--bindir")
            .output()
            .ok()?;
        Some(PathBuf::from(String::from_utf8(asked.stdout).ok()?.trim()))
    };
    debian
        .or_else(elsewhere)
        .unwrap_or_else(|| "/usr/lib/postgresql/15/bin".into())
}

/// The SeaweedFS binary.
pub fn weed() -> PathBuf {
    variable("WALFERRY_WEED").map_or_else(
        || target().join("tools/seaweedfs-4.48/bin/weed"),
        Into::into,
    )
}

/// Whether the folder of a failed test stays.
pub fn keep_failed() -> bool {
    variable("WALFERRY_TEST_KEEP").is_some()
}

/// The name and value of the switch of `tests/mutants/run`, if it is at work.
pub fn mutant() -> Option<(&'static str, String)> {
    let name = "WALFERRY_TEST_MUTANT";
    variable(name).map(|value| (name, value))
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
        .to_path_buf()
}

/// How long a soak lasts, in minutes, and its seed if one was given.
pub fn soak() -> (u64, Option<u64>) {
    let number = |name: &str| variable(name).and_then(|value| value.parse().ok());
    let minutes = number("WALFERRY_TEST_SOAK_MINUTES").unwrap_or(1);
    (minutes, number("WALFERRY_TEST_SOAK_SEED"))
}

/// Cargo's target folder, found from the running test binary
/// (`target/<profile>/deps/it-…`), so that a moved target folder works.
pub fn target() -> PathBuf {
    profile()
        .parent()
        .expect("the profile's folder lies in the target folder")
        .to_path_buf()
}

/// The folder in which cargo put the binaries of this build.
pub fn profile() -> PathBuf {
    let running = std::env::current_exe().expect("the path of the running test");
    running
        .ancestors()
        .nth(2)
        .expect("a test binary lies in <target>/<profile>/deps")
        .to_path_buf()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness's one reader of the environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
