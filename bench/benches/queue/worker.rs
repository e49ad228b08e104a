//! Worker processes of whatever contestant.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::contestant::Contestant;
use crate::starts::Starts;

/// A worker with its children; killed when dropped.
#[derive(Debug)]
pub(crate) struct Worker(Child);

impl Worker {
    /// Starts number `number`; its output goes into `<folder>/worker.log`.
    pub(crate) fn start(
        who: Contestant,
        url: &str,
        folder: &Path,
        starts: &Starts,
        number: usize,
    ) -> Worker {
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("worker.log"))
            .expect("a file for the worker's output");
        let gate = gate(folder);
        let child = who
            .worker(url, starts.path(), &gate, number)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("one more handle of the log"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("start a worker of {}: {error}", who.name()));
        Worker(child)
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// SIGKILL for it and its children at once, as the kernel does when a machine or a
    /// container goes.
    pub(crate) fn kill(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The file that lets workers begin.
fn gate(folder: &Path) -> String {
    let path = folder.join("gate");
    path.to_str().expect("a path that is text").to_owned()
}

/// Lets workers begin that were started in this folder.
pub(crate) fn open_gate(folder: &Path) {
    std::fs::write(gate(folder), "").expect("open the gate");
}

/// An empty folder of its own for one measurement.
pub(crate) fn folder(parent: &Path, name: &str) -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix(name)
        .tempdir_in(parent)
        .expect("a folder for one measurement")
}
