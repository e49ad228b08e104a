//! PostgreSQL's part in archiving: a closed segment in `pg_wal`, a `.ready` for it, the
//! command, a `.done`. The server itself is stopped meanwhile; it would archive and recycle
//! at moments of its own.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use walferry_tests::{Postgres, User};

use crate::corpus::Segment;

/// The archiver process of a stopped server.
#[derive(Debug)]
pub struct Archiver {
    data: PathBuf,
    user: u32,
    group: u32,
}

impl Archiver {
    /// The archiver of this server's data folder.
    ///
    /// # Panics
    /// When there is no such folder.
    #[must_use]
    pub fn new(server: &Postgres) -> Archiver {
        let data = server.data().to_owned();
        let owner = std::fs::metadata(&data).expect("a server has its data");
        Archiver {
            data,
            user: owner.uid(),
            group: owner.gid(),
        }
    }

    /// Puts these segments into `pg_wal`, every byte of them, and waits until they are on
    /// disk, so that what is measured next does not share the disk with them.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn place(&self, segments: &[Segment]) {
        let pg_wal = self.data.join("pg_wal");
        for segment in segments {
            segment.place(&pg_wal);
        }
        rustix::fs::sync();
    }

    /// Says that a segment is ready.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn ready(&self, name: &str) {
        let path = self.status(name, "ready");
        std::fs::write(&path, "").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        User::Postgres.own(&path, None);
    }

    /// Runs an `archive_command` for a segment as PostgreSQL does: by the shell, as its own
    /// user, in the data folder. From before the start to the end of the process.
    ///
    /// # Panics
    /// When the command fails.
    #[must_use]
    pub fn call(&self, command: &str, name: &str) -> Duration {
        let command = command.replace("%p", &format!("pg_wal/{name}"));
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(&command)
            .current_dir(&self.data)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null());
        if walferry_tests::users::is_root() {
            shell.gid(self.group).uid(self.user);
        }
        let began = Instant::now();
        let ended = shell.output().expect("the shell starts");
        let took = began.elapsed();
        assert!(
            ended.status.success(),
            "`{command}` ended with {}: {}",
            ended.status,
            String::from_utf8_lossy(&ended.stderr)
        );
        took
    }

    /// Says that a segment is archived.
    ///
    /// # Panics
    /// When it was not ready.
    #[expect(
        clippy::disallowed_methods,
        reason = "the benchmark plays PostgreSQL's part"
    )]
    pub fn done(&self, name: &str) {
        std::fs::rename(self.status(name, "ready"), self.status(name, "done"))
            .unwrap_or_else(|error| panic!("{name} is done: {error}"));
    }

    /// Removes what the archiver knows of a segment: its copy in `pg_wal` stays.
    ///
    /// # Panics
    /// When it was not done.
    pub fn forget(&self, name: &str) {
        remove(&self.status(name, "done"));
    }

    /// Where a segment lies in `pg_wal`.
    #[must_use]
    pub fn source(&self, name: &str) -> PathBuf {
        self.data.join("pg_wal").join(name)
    }

    fn status(&self, name: &str, what: &str) -> PathBuf {
        self.data
            .join("pg_wal/archive_status")
            .join(format!("{name}.{what}"))
    }
}

/// Removes a file of the benchmark's own making.
///
/// # Panics
/// When it is not there.
#[expect(
    clippy::disallowed_methods,
    reason = "files of the benchmark's own making"
)]
pub fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
}
