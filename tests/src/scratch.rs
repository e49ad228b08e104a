//! A folder per world under `/tmp` (or `TMPDIR`), readable by the users of the test, and the
//! removal of what a killed test left there.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "walferry-test-";

/// A world's folder, `$TMPDIR/walferry-test-<pid>-<n>`; removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static SWEEP: std::sync::Once = std::sync::Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(sweep);
        let path = std::env::temp_dir().join(format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        make(&path, 0o755);
        Scratch { path, keep: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            remove(&self.path);
        }
    }
}

/// Makes a folder with exactly this mode, whatever the umask.
pub(crate) fn make(path: &Path, mode: u32) {
    std::fs::create_dir_all(path).unwrap_or_else(|e| panic!("mkdir {}: {e}", path.display()));
    set_mode(path, mode);
}

/// Sets a mode, whatever the umask.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("chmod {}: {e}", path.display()));
}

#[expect(
    clippy::disallowed_methods,
    reason = "a folder of the test's own making"
)]
fn remove(path: &Path) {
    crate::mounts::unmount_below(path);
    if let Err(error) = std::fs::remove_dir_all(path) {
        eprintln!("could not remove {}: {error}", path.display());
    }
}

/// Ends processes and removes folders of tests that were killed before they
/// could: their names carry the pid of a test that is no more.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok())
        else {
            continue;
        };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            end_processes_of(&entry.path());
            remove(&entry.path());
        }
    }
}

/// Kills what names the folder on its command line or stands in it.
fn end_processes_of(folder: &Path) {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return;
    };
    let needle = format!("{}/", folder.display());
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let inside =
            std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if (inside || String::from_utf8_lossy(&command).contains(&needle))
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
