//! The programs under test, as cargo built them, where every user of the test
//! can read them.

use std::path::{Path, PathBuf};

use crate::environment::profile;

/// Names of the shipped programs.
pub const SHIPPED: [&str; 3] = ["walferry", "walferry-worker", "walferry-scheduler"];

/// A program of this build.
#[track_caller]
pub fn built(name: &str) -> PathBuf {
    let path = profile().join(name);
    assert!(
        path.exists(),
        "{} is not built: `cargo build --workspace --bins` comes before the tests, as in ./test",
        path.display()
    );
    path
}

/// Puts the shipped programs into `folder`: PostgreSQL's user cannot look under
/// the home of whoever builds. Links where it can, copies where it must.
pub(crate) fn publish(folder: &Path) {
    crate::scratch::make(folder, 0o755);
    for name in SHIPPED {
        let (from, to) = (profile().join(name), folder.join(name));
        // A world that never starts a program does not need it built.
        if from.exists() && std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to)
                .unwrap_or_else(|error| panic!("copy {}: {error}", from.display()));
        }
    }
}
