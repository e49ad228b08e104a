//! A real PostgreSQL and the segments that it wrote.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use walferry_wal::{SegmentName, SegmentSize};

/// A server with segments of 1 MiB. Dropping it ends it.
pub(crate) struct Server {
    folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
            .expect("chmod");
        if is_root(folder.path()) {
            std::os::unix::fs::chown(folder.path(), Some(account("/etc/passwd")), None)
                .expect("chown");
        }
        let server = Self { folder };
        run(server
            .command("initdb")
            .args(["--no-sync", "--auth=trust", "--username=postgres"])
            .args(["--wal-segsize=1", "-D"])
            .arg(server.data()));
        // A socket in the folder and no TCP: any number of servers side by side.
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\n\
             shared_buffers = 8MB\nwal_level = logical\nmax_prepared_transactions = 4\n\
             wal_keep_size = 512MB\nautovacuum = off\ncheckpoint_timeout = 1h\n",
            server.folder.path().display(),
        );
        let file = server.data().join("postgresql.conf");
        let before = std::fs::read_to_string(&file).expect("a configuration");
        std::fs::write(file, before + &settings).expect("a configuration");
        server.start();
        server
    }

    pub(crate) fn query(&self, sql: &str) -> String {
        let output = self
            .command("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(self.folder.path())
            .args(["-d", "postgres", "-c", sql])
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "{sql}: {}", text(&output));
        text(&output).trim().to_owned()
    }

    /// Ends the segment; the name of the one that was ended.
    pub(crate) fn switch(&self) -> SegmentName {
        let name = self.query("select pg_walfile_name(pg_switch_wal())");
        name.parse().expect("a segment")
    }

    /// Stops, and goes on as a timeline of its own, as a standby that is promoted does.
    pub(crate) fn promote(&self) {
        run(self
            .command("pg_ctl")
            .args(["stop", "-w", "-m", "fast", "-D"])
            .arg(self.data()));
        let signal = self.data().join("standby.signal");
        std::fs::write(&signal, "").expect("a signal file");
        if is_root(Path::new("/proc/self")) {
            std::os::unix::fs::chown(&signal, Some(account("/etc/passwd")), None).expect("chown");
        }
        self.start();
        run(self
            .command("pg_ctl")
            .args(["promote", "-w", "-D"])
            .arg(self.data()));
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.query("select pg_is_in_recovery()") != "f" {
            assert!(Instant::now() < deadline, "it is not promoted");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every segment up to that one, in order.
    pub(crate) fn segments(&self, last: SegmentName) -> Vec<SegmentName> {
        let entries = std::fs::read_dir(self.wal()).expect("a folder");
        let mut names: Vec<SegmentName> = entries
            .filter_map(|entry| entry.expect("an entry").file_name().to_str()?.parse().ok())
            .filter(|name| *name <= last)
            .collect();
        names.sort();
        names
    }

    pub(crate) fn read(&self, name: SegmentName) -> Vec<u8> {
        std::fs::read(self.wal().join(name.to_string())).expect("a segment")
    }

    /// What the program prints about the segment.
    pub(crate) fn waldump(&self, name: SegmentName) -> String {
        let mut dump = self.command("pg_waldump");
        let output = dump.arg(self.wal().join(name.to_string())).output();
        let output = output.expect("pg_waldump runs");
        // It ends with an error where WAL ends, after it has printed all that there is.
        String::from_utf8(output.stdout).expect("text")
    }

    /// `pg_controldata`, the value of one line.
    pub(crate) fn control_data(&self, line: &str) -> String {
        let output = self.command("pg_controldata").arg(self.data()).output();
        let output = text(&output.expect("pg_controldata runs"));
        let value = output
            .lines()
            .find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
        value.expect("that line").trim().to_owned()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn wal(&self) -> PathBuf {
        self.data().join("pg_wal")
    }

    fn start(&self) {
        let log = self.folder.path().join("log");
        let status = self
            .command("pg_ctl")
            .args(["start", "-w", "-t", "60", "-D"])
            .arg(self.data())
            .arg("-l")
            .arg(&log)
            // Its own descriptors, not pipes of ours, which the server would keep open.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("pg_ctl runs");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        assert!(status.success(), "the server does not start: {log}");
    }

    fn command(&self, program: &str) -> Command {
        let program = binaries().join(program);
        let mut command = if is_root(Path::new("/proc/self")) {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={}", account("/etc/passwd")))
                .arg(format!("--regid={}", account("/etc/group")))
                .arg("--clear-groups")
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .current_dir(self.folder.path())
            .env("LC_ALL", "C")
            .env("TZ", "UTC");
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

pub(crate) fn size() -> SegmentSize {
    SegmentSize::try_from(1 << 20).expect("1 MiB")
}

/// PostgreSQL refuses root: then it runs as its own user.
fn is_root(ours: &Path) -> bool {
    std::fs::metadata(ours).expect("metadata").uid() == 0
}

fn account(database: &str) -> u32 {
    let text = std::fs::read_to_string(database).expect("accounts");
    let line = text.lines().find(|line| line.starts_with("postgres:"));
    let id = line.and_then(|line| line.split(':').nth(2)?.parse().ok());
    id.expect("PostgreSQL's user: apt-get install postgresql")
}

/// The newest that Debian has installed, 15 before all: the one that is deployed.
fn binaries() -> PathBuf {
    let folder = Path::new("/usr/lib/postgresql");
    let versions = [15, 18, 17, 16, 14, 13];
    versions
        .map(|version| folder.join(version.to_string()).join("bin"))
        .into_iter()
        .find(|path| path.join("initdb").exists() && path.join("pg_waldump").exists())
        .expect("PostgreSQL is installed: apt-get install postgresql")
}

fn run(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", text(&output));
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(&[&out[..], &err[..]].concat()).into_owned()
}
