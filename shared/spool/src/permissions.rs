//! The permission contract, tried out as the current user.
//!
//! PostgreSQL's user and the worker's may differ. The directory belongs to a group that both
//! are in, mode 2770; files are 0640.

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::directory::Directory;
use crate::open::{OpenError, open_checked};
use crate::scan::scan;
use crate::stat::FileId;
use crate::suspicion::Suspicion;
use crate::{names, people};

/// One line of what `check` has to say about permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionFinding {
    pub severity: Severity,
    /// `list`, `write`, `delete`, `read` or `mode`: what was tried.
    pub what: &'static str,
    /// With owner and mode of the thing that is in the way.
    pub message: String,
    /// What to do; empty when all is well.
    pub hint: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Ok,
    /// It works, but not as it should be.
    Warning,
    /// Archiving cannot work like this.
    Missing,
}

/// Files that are opened to see whether they can be read.
const SAMPLE: usize = 1000;

/// The way to the directory that the contract wants.
pub(crate) const SHARED: &str = "chgrp the directory to a group that PostgreSQL's user and the worker's are in, then chmod 2770";
const STICKY: &str = "chmod -t: with the sticky bit only a file's owner may delete it";
const OPEN: &str = "chgrp the directory to a group that PostgreSQL's user and the worker's are in, then chmod 2770; as long as it stays like this, set spool.file_mode = 0644 for `walferry push`, or a worker of another user cannot read what it stores";
const READ: &str = "let `walferry push` store the files (it sets 0640, which the group of a directory with mode 2770 may read; without such a group set spool.file_mode = 0644), or for basic_archive run the worker as the server's user, or make the cluster with `initdb --allow-group-access`";

/// Tries to list, read, write and delete, and says which is missing.
///
/// Makes and removes one file of its own; touches no other.
#[must_use]
pub fn check_permissions(directory: &Directory) -> Vec<PermissionFinding> {
    let mut findings = vec![shape(directory), delete(directory)];
    findings.extend(read(directory));
    findings
}

/// Whether a worker can do its work in it: list it, and delete from it.
///
/// # Errors
/// What is in the way, such as a missing right or a file system that is read-only.
pub fn usable(path: &Path) -> std::io::Result<()> {
    use rustix::fs::Access;

    std::fs::read_dir(path)?;
    Ok(rustix::fs::access(
        path,
        Access::WRITE_OK | Access::EXEC_OK,
    )?)
}

/// Group, setgid and the old 0777.
fn shape(directory: &Directory) -> PermissionFinding {
    let Ok(id) = own(directory) else {
        return finding(
            Severity::Missing,
            "mode",
            "its mode cannot be read".into(),
            SHARED,
        );
    };
    let described = describe(&id);
    let ok_in_group = id.mode & 0o070 == 0o070;
    if id.mode & 0o002 != 0 {
        let message = format!("anybody may write to the archive directory: {described}");
        let hint = if id.mode & 0o2000 == 0 { OPEN } else { SHARED };
        return finding(Severity::Warning, "mode", message, hint);
    }
    if !ok_in_group || id.mode & 0o2000 == 0 {
        let message = format!("the archive directory is not shared by its group: {described}");
        return finding(Severity::Warning, "mode", message, SHARED);
    }
    finding(Severity::Ok, "mode", described, "")
}

/// Makes a file, renames it as deleting does, and unlinks it.
fn delete(directory: &Directory) -> PermissionFinding {
    let Ok(id) = own(directory) else {
        return finding(
            Severity::Missing,
            "delete",
            "its mode cannot be read".into(),
            SHARED,
        );
    };
    let me = rustix::process::geteuid().as_raw();
    // A file of one's own can always be deleted: what counts is PostgreSQL's.
    if id.mode & 0o1000 != 0 && me != 0 && me != id.uid {
        let message = format!("files of other users may not be deleted: {}", describe(&id));
        return finding(Severity::Missing, "delete", message, STICKY);
    }
    let (probe, renamed) = (
        names::unique(names::PROBE, "a"),
        names::unique(names::PROBE, "b"),
    );
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let made = rustix::fs::openat(
        directory.handle(),
        &probe,
        flags,
        Mode::from_raw_mode(0o600),
    )
    .and_then(|_| directory.rename_new(&probe, directory, &renamed))
    .and_then(|()| directory.unlink(&renamed));
    if let Err(error) = made {
        // A crash or an error in between leaves an empty dot-file, which no scan reports.
        let _ = directory.unlink(&probe);
        let _ = directory.unlink(&renamed);
        let message = format!(
            "files may not be deleted by {} ({error}): {}",
            people::user(me),
            describe(&id)
        );
        return finding(Severity::Missing, "delete", message, SHARED);
    }
    let message = format!("{} may delete", people::user(me));
    finding(Severity::Ok, "delete", message, "")
}

/// Opens what lies there.
fn read(directory: &Directory) -> Vec<PermissionFinding> {
    let me = people::user(rustix::process::geteuid().as_raw());
    let entries = match scan(directory) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("the archive directory cannot be listed by {me}: {error}");
            return vec![finding(Severity::Missing, "list", message, SHARED)];
        }
    };
    let files = entries.iter().filter_map(|entry| entry.file.as_ref().ok());
    let mut tried = 0;
    let mut unreadable = Vec::new();
    for file in files.take(SAMPLE) {
        tried += 1;
        if let Err(OpenError::Suspicious {
            suspicion: Suspicion::Unreadable { owner, mode },
            ..
        }) = open_checked(directory, file)
        {
            unreadable.push((file, owner, mode));
        }
    }
    let Some((file, owner, mode)) = unreadable.first() else {
        let message = format!("{me} may read: {tried} files tried");
        return vec![finding(Severity::Ok, "read", message, "")];
    };
    let message = format!(
        "{} of {tried} files may not be read by {me}, the first is `{file}`: owner {}, mode {mode:04o}",
        unreadable.len(),
        people::user(*owner)
    );
    vec![finding(Severity::Missing, "read", message, READ)]
}

fn own(directory: &Directory) -> std::io::Result<FileId> {
    let stat = directory.stat(OsStr::new("."))?;
    stat.map(|stat| FileId::of(&stat))
        .ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// What can be seen of a directory that cannot be opened.
pub(crate) fn shape_of(path: &Path) -> String {
    match rustix::fs::stat(path) {
        Ok(stat) => describe(&FileId::of(&stat)),
        Err(error) => format!("its owner and mode may not be seen ({error})"),
    }
}

fn describe(id: &FileId) -> String {
    format!(
        "owner {}, group {}, mode {:04o}",
        people::user(id.uid),
        people::group(id.gid),
        id.mode
    )
}

fn finding(
    severity: Severity,
    what: &'static str,
    message: String,
    hint: &'static str,
) -> PermissionFinding {
    PermissionFinding {
        severity,
        what,
        message,
        hint,
    }
}
