//! A PostgreSQL server of a test's own, with folders that only its user can enter.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use walferry_replication::{Connection, ReplicationError, ServerSettings};

pub(crate) struct Server {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
}

/// Trust on the socket; who comes over TCP is told apart by name.
const ADMISSION: &str = "\
local all all trust
local replication all trust
hostssl replication ssl_only 127.0.0.1/32 trust
hostssl replication certified 127.0.0.1/32 cert
host replication trusted,plain 127.0.0.1/32 trust
host replication md5er 127.0.0.1/32 md5
host replication scrammer 127.0.0.1/32 scram-sha-256
host replication clear 127.0.0.1/32 password
";

const ROLES: &str = "\
create role trusted login replication;
create role plain login;
create role ssl_only login replication;
create role certified login replication;
create role scrammer login replication password 'open sésame';
create role clear login replication password 'clear';
create role unlisted login replication;
set password_encryption = 'md5';
create role md5er login replication password 'five';
";

impl Server {
    /// Makes and starts a cluster.
    pub(crate) fn new(initdb: &[&str], configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
            .expect("chmod");
        let server = Self {
            folder,
            port: free_port(),
        };
        own(server.folder.path());
        run(server
            .command("initdb")
            .args(["--no-sync", "--auth=trust", "--username=postgres", "-D"])
            .arg(server.data())
            .args(initdb));
        server.configure(&format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nport = {}\n\
             fsync = off\nshared_buffers = 8MB\nlc_messages = 'C'\n{configuration}\n",
            server.folder.path().display(),
            server.port
        ));
        std::fs::write(server.data().join("pg_hba.conf"), ADMISSION).expect("a file");
        server.start();
        for role in ROLES.lines() {
            // One session: a setting of it counts for the next line.
            if !role.starts_with("set") {
                server.query(&format!("set password_encryption = '{}'; {role}", {
                    if role.contains("md5er") {
                        "md5"
                    } else {
                        "scram-sha-256"
                    }
                }));
            }
        }
        server
    }

    /// Around the data folder `data`, which a backup became.
    pub(crate) fn of_backup(folder: tempfile::TempDir) -> Self {
        let server = Self {
            folder,
            port: free_port(),
        };
        server.configure(&format!(
            "port = {}\nunix_socket_directories = '{}'\n",
            server.port,
            server.folder.path().display()
        ));
        server.start();
        server
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Over TCP, with what else the URL should say.
    pub(crate) fn url(&self, user: &str, query: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/?{query}", self.port)
    }

    /// Over the socket, as the superuser.
    pub(crate) fn settings(&self) -> ServerSettings {
        let folder = self.folder.path().display();
        settings(&format!("host={folder} port={} user=postgres", self.port))
    }

    pub(crate) async fn connect(&self) -> Connection {
        let connection = Connection::open(&self.settings()).await;
        connection.unwrap_or_else(|error| panic!("{}", crate::chain(&error)))
    }

    pub(crate) fn query(&self, sql: &str) -> String {
        let mut psql = self.command("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(self.folder.path())
            .args(["-p", &self.port.to_string(), "-d", "postgres", "-c", sql]);
        let output = psql.output().expect("psql runs");
        assert!(output.status.success(), "{sql}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(crate) fn configure(&self, lines: &str) {
        use std::io::Write as _;

        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(self.data().join("postgresql.conf"))
            .expect("a configuration");
        file.write_all(lines.as_bytes()).expect("a configuration");
    }

    pub(crate) fn start(&self) {
        let log = self.folder.path().join("log");
        let mut start = self.command("pg_ctl");
        start
            .args(["start", "-w", "-t", "60", "-D"])
            .arg(self.data())
            .arg("-l")
            .arg(&log);
        // Not pipes of ours, which the server would keep open.
        let status = start.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let log = std::fs::read_to_string(log).unwrap_or_default();
        assert!(status.expect("pg_ctl runs").success(), "{log}");
    }

    pub(crate) fn stop(&self, mode: &str) {
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "-w", "-m", mode, "-D"]).arg(self.data());
        run(&mut stop);
    }

    pub(crate) fn promote(&self) {
        let mut promote = self.command("pg_ctl");
        promote.args(["promote", "-w", "-D"]).arg(self.data());
        run(&mut promote);
    }

    /// A file of the server's user.
    pub(crate) fn place(&self, path: &Path, content: &str) {
        std::fs::write(path, content).expect("a file");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        own(path);
    }

    /// The process that serves a WAL sender named walferry.
    pub(crate) fn sender(&self) -> String {
        self.query("select pid from pg_stat_activity where application_name = 'walferry'")
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = as_postgres(&binaries().join(program));
        command.current_dir(self.folder.path());
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

pub(crate) fn settings(url: &str) -> ServerSettings {
    ServerSettings::from_url(&SecretString::from(url)).unwrap_or_else(|e| panic!("{url}: {e}"))
}

/// Connects, and is refused.
pub(crate) async fn refused(url: &str) -> ReplicationError {
    match Connection::open(&settings(url)).await {
        Ok(_) => panic!("{url}: it lets us in"),
        Err(error) => error,
    }
}

/// Connects, and asks who the server is.
pub(crate) async fn admitted(url: &str) -> Connection {
    let opened = Connection::open(&settings(url)).await;
    let mut connection = opened.unwrap_or_else(|e| panic!("{url}: {}", crate::chain(&e)));
    connection.identify().await.expect("identify");
    connection
}

pub(crate) fn signal(signal: &str, pid: &str) {
    run(Command::new("kill").args([&format!("-{signal}"), pid]));
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", text(&output));
}

/// PostgreSQL refuses root.
pub(crate) fn as_postgres(program: &Path) -> Command {
    let mut command = match postgres() {
        Some((uid, gid)) => {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={uid}"))
                .arg(format!("--regid={gid}"))
                .arg("--clear-groups")
                .arg(program);
            command
        }
        None => Command::new(program),
    };
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Gives it to the server's user.
pub(crate) fn own(path: &Path) {
    if let Some((uid, gid)) = postgres() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown");
    }
}

/// Its user and group, if we are root.
fn postgres() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").expect("accounts");
    let line = accounts.lines().find(|line| line.starts_with("postgres:"));
    let mut ids = line.expect("a user postgres").split(':').skip(2);
    let mut id = || ids.next().and_then(|id| id.parse().ok()).expect("an id");
    Some((id(), id()))
}

fn binaries() -> PathBuf {
    let folder = Path::new("/usr/lib/postgresql");
    let versions = [15, 18, 17, 16].map(|version| folder.join(version.to_string()).join("bin"));
    let installed = versions
        .into_iter()
        .find(|path| path.join("initdb").exists());
    installed.expect("PostgreSQL is installed: apt-get install postgresql")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
