//! A real PostgreSQL: once for the files that most tests work on, and per test where the
//! server itself has to hand over.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use walferry_wal::SystemId;

use crate::scratch::{names, open_to_all};
use crate::tool::{SHARED, is_root};

/// Files of one cluster with segments of 1 MiB, as its archiver was given them.
pub(crate) struct Made {
    folder: PathBuf,
    pub(crate) system: SystemId,
}

impl Made {
    /// The archived files whose names end so, in order.
    pub(crate) fn ending(&self, suffix: &str) -> Vec<PathBuf> {
        names(&self.folder)
            .into_iter()
            .filter(|name| name.ends_with(suffix))
            .map(|name| self.folder.join(name))
            .collect()
    }

    /// The finished segments of timeline 1, in order.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut segments = self.ending("");
        segments.retain(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            name.len() == 24 && name.starts_with("00000001")
        });
        segments
    }

    pub(crate) fn segment(&self) -> PathBuf {
        self.segments().swap_remove(0)
    }

    /// A finished segment of timeline 2.
    pub(crate) fn later_segment(&self) -> PathBuf {
        let mut segments = self.ending("");
        segments.retain(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            name.len() == 24 && name.starts_with("00000002")
        });
        segments.swap_remove(0)
    }

    pub(crate) fn history(&self) -> PathBuf {
        self.ending("00000002.history").swap_remove(0)
    }

    pub(crate) fn label(&self) -> PathBuf {
        self.ending(".backup").swap_remove(0)
    }
}

/// Segments, a `.backup`, a `.partial` and a `.history`, made once per test run.
pub(crate) fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();

    MADE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        crate::scratch::set_mode(folder.path(), 0o777);
        let mut server = Server::new(
            &["--wal-segsize=1"],
            &format!(
                "archive_command = 'cp %p {}/%f && chmod 644 {0}/%f'",
                folder.path().display()
            ),
        );
        server.query("create table filler as select generate_series(1, 20000) as n");
        server.query("select pg_backup_start('nightly', true); select pg_backup_stop()");
        server.query("insert into filler select * from filler");
        server.switch();
        server.promote_from(folder.path());
        server.query("insert into filler select * from filler");
        server.switch();
        let system = server.system();
        drop(server);
        // Statics are never dropped: what outlives the run lies in the target folder.
        // Test processes run side by side: each has a folder of its own.
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("spool-made-by-postgresql-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::create_dir_all(&kept).expect("a folder");
        for name in names(folder.path()) {
            std::fs::copy(folder.path().join(&name), kept.join(&name)).expect("a copy");
        }
        Made {
            folder: kept,
            system,
        }
    })
}

/// A server of its own, of the shared group when there are two users. Dropping it ends it.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    socket: u16,
}

impl Server {
    /// Makes and starts a cluster; `configuration` says how it archives.
    pub(crate) fn new(initdb: &[&str], configuration: &str) -> Self {
        static COUNT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);

        let folder = tempfile::tempdir().expect("a folder");
        if is_root() {
            std::os::unix::fs::chown(folder.path(), Some(user()), None).expect("chown");
        }
        open_to_all(folder.path());
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let server = Self {
            folder,
            socket: 20_000 + count,
        };
        let data = server.data();
        run(server
            .command("initdb")
            .args(["--no-sync", "--auth=trust", "--username=postgres", "-D"])
            .arg(&data)
            .args(initdb));
        // A socket in the folder and no TCP: any number of servers side by side.
        server.configure(&format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nport = {}\n\
             archive_mode = on\nwal_level = replica\nfsync = off\nshared_buffers = 8MB\n{configuration}\n",
            server.folder.path().display(),
            server.socket
        ));
        server.start();
        server
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn query(&self, sql: &str) -> String {
        let output = self
            .command("psql")
            .args([
                "-X",
                "-A",
                "-t",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-h",
            ])
            .arg(self.folder.path())
            .args(["-p", &self.socket.to_string(), "-d", "postgres", "-c", sql])
            .output()
            .expect("psql runs");
        assert!(
            output.status.success(),
            "{sql}: {}",
            crate::tool::text(&output)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Ends a segment and waits until it is archived; its name.
    pub(crate) fn switch(&self) -> String {
        self.query("create table if not exists work (n int); insert into work values (1)");
        let name = self.query("select pg_walfile_name(pg_switch_wal())");
        self.until_archived(&name);
        name
    }

    pub(crate) fn until_archived(&self, name: &str) {
        let sql =
            format!("select coalesce(last_archived_wal >= '{name}', false) from pg_stat_archiver");
        eventually(&format!("{name} is archived"), || self.query(&sql) == "t");
    }

    pub(crate) fn system(&self) -> SystemId {
        let id = self.query("select system_identifier from pg_control_system()");
        id.parse().expect("a system id")
    }

    /// Stops, and starts again as a new timeline out of `archive`.
    pub(crate) fn promote_from(&mut self, archive: &Path) {
        self.stop();
        self.configure(&format!(
            "restore_command = 'cp {}/%f %p'\nrecovery_target_timeline = 'latest'\n",
            archive.display()
        ));
        let signal = self.data().join("recovery.signal");
        std::fs::write(&signal, "").expect("a signal file");
        if is_root() {
            std::os::unix::fs::chown(&signal, Some(user()), None).expect("chown");
        }
        self.start();
        eventually("the server is promoted", || {
            self.query("select pg_is_in_recovery()") == "f"
        });
        eventually("the history is archived", || {
            archive.join("00000002.history").exists()
        });
    }

    fn configure(&self, lines: &str) {
        use std::io::Write;

        let file = self.data().join("postgresql.conf");
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(file)
            .expect("a file");
        file.write_all(lines.as_bytes()).expect("a configuration");
    }

    fn start(&self) {
        let log = self.folder.path().join("log");
        let mut start = self.command("pg_ctl");
        start
            .args(["start", "-w", "-t", "60", "-D"])
            .arg(self.data())
            .arg("-l")
            .arg(&log);
        // Its own descriptors, not pipes of ours, which the server would keep open.
        start
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let status = start.status().expect("pg_ctl runs");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        assert!(status.success(), "the server does not start: {log}");
    }

    fn stop(&self) {
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "-w", "-m", "fast", "-D"])
            .arg(self.data());
        run(&mut stop);
    }

    fn command(&self, program: &str) -> Command {
        let program = binaries().join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={}", user()))
                .arg(format!("--regid={}", group()))
                .arg(format!("--groups={SHARED}"))
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "-w", "-m", "immediate", "-D"])
            .arg(self.data());
        let _ = stop.output();
    }
}

/// PostgreSQL's user; it refuses root.
pub(crate) fn user() -> u32 {
    account("/etc/passwd").unwrap_or_else(|| rustix::process::geteuid().as_raw())
}

fn group() -> u32 {
    account("/etc/group").unwrap_or_else(|| rustix::process::getegid().as_raw())
}

fn account(database: &str) -> Option<u32> {
    let text = std::fs::read_to_string(database).ok()?;
    let line = text.lines().find(|line| line.starts_with("postgres:"))?;
    is_root().then(|| line.split(':').nth(2)?.parse().ok())?
}

/// The newest PostgreSQL from 15 up that Debian has installed, or the one on the path.
fn binaries() -> PathBuf {
    let folder = Path::new("/usr/lib/postgresql");
    let versions = [15, 18, 17, 16].map(|version| folder.join(version.to_string()).join("bin"));
    let installed = versions
        .into_iter()
        .find(|path| path.join("initdb").exists());
    installed.unwrap_or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .find(|path| path.join("initdb").exists())
            .expect("PostgreSQL is installed: apt-get install postgresql")
    })
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", crate::tool::text(&output));
}
