//! A clock of a server's own that a test can set: `clock.c`, preloaded into its process.

use std::path::{Path, PathBuf};
use std::process::Command;

/// How far a server's clock is off.
#[derive(Debug)]
pub(crate) struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right. `folder` is the server's.
    #[track_caller]
    pub(crate) fn new(folder: &Path) -> Clock {
        let clock = Clock {
            file: folder.join("clock"),
            library: folder.join("clock.so"),
        };
        let source = folder.join("clock.c");
        std::fs::write(&source, include_str!("clock.c")).expect("write a clock's source");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]);
        crate::process::run(compile.arg(&clock.library).arg(&source)).ok();
        clock.step(0);
        clock
    }

    /// From now on it is so many seconds ahead of the machine's, or behind.
    #[expect(clippy::disallowed_methods, reason = "a file of the test's own making")]
    pub(crate) fn step(&self, seconds: i64) {
        // In one piece: the server looks at every reading of its clock.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds}\n")).expect("write a clock");
        std::fs::rename(&new, &self.file).expect("set a clock");
    }

    /// `NAME=VALUE` for the server's environment.
    pub(crate) fn variables(&self) -> Vec<String> {
        vec![
            format!("LD_PRELOAD={}", self.library.display()),
            format!("WALFERRY_TEST_CLOCK={}", self.file.display()),
        ]
    }
}
