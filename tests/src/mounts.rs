//! Real file systems under a test's folder: small, read-only, away. They are unmounted with the
//! folder, also that of a test that was killed.

use std::path::Path;

use crate::process;

/// A file system of its own in memory: `size=8m`.
#[track_caller]
pub fn tmpfs(at: &Path, options: &str) {
    mount(&["-t", "tmpfs", "-o", options, "tmpfs"], at).unwrap_or_else(|error| panic!("{error}"));
}

/// What lies in `from`, at another place.
#[track_caller]
pub fn bind(from: &Path, at: &Path) {
    let from = from.display().to_string();
    mount(&["--bind", &from], at).unwrap_or_else(|error| panic!("{error}"));
}

/// Makes a file system read-only (`ro`) or not (`rw`).
///
/// # Errors
/// While somebody writes to a file in it.
pub fn remount(at: &Path, mode: &str) -> Result<(), String> {
    mount(&["-o", &format!("remount,{mode}")], at)
}

/// Takes a file system away from its place; what is open in it stays open.
#[track_caller]
pub fn unmount(at: &Path) {
    let mut command = std::process::Command::new("umount");
    process::run(command.arg("--lazy").arg(at)).ok();
}

/// Unmounts whatever is mounted in a folder that is about to be removed.
pub(crate) fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for place in places
        .map(Path::new)
        .filter(|place| place.starts_with(folder))
    {
        unmount(place);
    }
}

fn mount(arguments: &[&str], at: &Path) -> Result<(), String> {
    let mut command = std::process::Command::new("mount");
    let done = process::run(command.args(arguments).arg(at));
    if done.code == 0 {
        return Ok(());
    }
    Err(format!(
        "mount {arguments:?} at {}: {}. HINT: it takes root and CAP_SYS_ADMIN",
        at.display(),
        done.stderr
    ))
}
