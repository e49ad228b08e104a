//! Starting the process that fetches ahead, and cutting it off from whoever started it.
//!
//! It outlives the `fetch` that starts it, so nothing of PostgreSQL may live on in it: a
//! descriptor of the server's log or of `pg_ctl`'s output, kept open, makes those wait for ever;
//! its session would be signalled with the server; its working directory could not be unmounted.
//! And where PostgreSQL is process 1 of a container it inherits the orphan, and restarts every
//! backend if that ends with anything but 0 or 1: so it ends with 0, whatever happens.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::process::{Command, Stdio};

use super::space::Space;

/// What came of it.
#[derive(Debug)]
pub enum Started {
    /// It runs, or ran already.
    Running,
    /// It ended a moment ago, and why.
    Resting(String),
}

/// Makes sure that a process fetches ahead in `space`; `arguments` are those of this program.
///
/// # Errors
/// When it cannot be started; nothing depends on it.
pub fn start(space: &Space, arguments: &[OsString]) -> io::Result<Started> {
    if space.is_served() {
        return Ok(Started::Running);
    }
    if let Some(reason) = space.failure() {
        return Ok(Started::Resting(reason));
    }
    let log = File::create(space.path().join("log"))?;
    Command::new(std::env::current_exe()?)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    Ok(Started::Running)
}

/// Leaves the session, and closes every inherited descriptor but the three.
///
/// Has to be the first thing that a process does, before it opens anything of its own. PostgreSQL
/// below 16 opens its files without O_CLOEXEC, so they reach every process below it.
pub fn detach() {
    // Fails for the leader of a group, which a process that was just started is not.
    let _ = rustix::process::setsid();
    let inherited: Vec<i32> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect(),
        // Without /proc all that there may be.
        Err(_) => (3..1024).collect(),
    };
    for descriptor in inherited.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one that listed the others is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}
