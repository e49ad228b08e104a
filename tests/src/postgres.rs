//! Real PostgreSQL servers, each with a folder and a port of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use tokio::runtime::Handle;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::clock::Clock;
use crate::environment::postgres_bin;
use crate::ports::Port;
use crate::process::{Finished, Process, run};
use crate::users::User;
use crate::{eventually_within, scratch};

/// A PostgreSQL server. Dropping it shuts it down at once.
#[derive(Debug)]
pub struct Postgres {
    name: String,
    folder: PathBuf,
    data: PathBuf,
    port: Port,
    runtime: Handle,
    server: Option<Process>,
    clock: Option<Clock>,
    /// Connections that are open to be in the way.
    crowd: Vec<tokio_postgres::Client>,
}

/// What a server is made of; the defaults suit a catalog.
#[derive(Debug, Clone)]
pub struct Settings {
    name: String,
    initdb: Vec<String>,
    options: Vec<(String, String)>,
}

impl Settings {
    /// A server called so; the name is that of its folder.
    pub fn new(name: &str) -> Settings {
        let settings = Settings {
            name: name.into(),
            initdb: [
                "--no-sync",
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
            ]
            .map(Into::into)
            .to_vec(),
            options: Vec::new(),
        };
        settings
            .option("listen_addresses", "127.0.0.1")
            .option("shared_buffers", "16MB")
            .option("log_line_prefix", "%m [%p] ")
            .option("autovacuum_naptime", "1h")
    }

    /// One more argument for `initdb`.
    pub fn initdb(mut self, argument: &str) -> Settings {
        self.initdb.push(argument.into());
        self
    }

    /// One line of `postgresql.conf`; the last one of a name holds.
    pub fn option(mut self, name: &str, value: &str) -> Settings {
        self.options.push((name.into(), value.into()));
        self
    }
}

impl Postgres {
    /// Makes a cluster in `<folder>/<name>` and starts it.
    pub fn start(settings: &Settings, folder: &Path, runtime: &Handle) -> Postgres {
        let folder = folder.join(&settings.name);
        scratch::make(&folder, 0o755);
        User::Postgres.own(&folder, None);
        let data = folder.join("data");
        let mut initdb = User::Postgres.command(postgres_bin().join("initdb"));
        initdb
            .current_dir(&folder)
            .arg("-D")
            .arg(&data)
            .args(&settings.initdb);
        run(&mut initdb).ok();
        let mut server = Postgres {
            name: settings.name.clone(),
            folder,
            data,
            port: Port::take(),
            runtime: runtime.clone(),
            server: None,
            clock: None,
            crowd: Vec::new(),
        };
        server.configure(&settings.options);
        server.start_again();
        server
    }

    /// Takes over a data folder that already exists, such as a standby's made by
    /// `pg_basebackup`, and starts it.
    pub fn adopt(
        name: &str,
        folder: &Path,
        runtime: &Handle,
        options: &[(&str, &str)],
    ) -> Postgres {
        let folder = folder.join(name);
        let mut server = Postgres {
            name: name.into(),
            data: folder.join("data"),
            folder,
            port: Port::take(),
            runtime: runtime.clone(),
            server: None,
            clock: None,
            crowd: Vec::new(),
        };
        let options: Vec<_> = options
            .iter()
            .map(|(n, v)| ((*n).into(), (*v).into()))
            .collect();
        server.configure(&options);
        server.start_again();
        server
    }

    /// Starts the stopped server and waits until it accepts connections.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "{} runs already", self.name);
        // The clock is for the server and not for what makes it another user's.
        let mut command = User::Postgres.command("/usr/bin/env");
        command
            .current_dir(&self.folder)
            .args(self.clock.iter().flat_map(Clock::variables))
            .arg(postgres_bin().join("postgres"))
            .arg("-D")
            .arg(&self.data)
            .arg("-k")
            .arg(&self.folder)
            .arg(format!("-p{}", self.port.number()));
        // SIGQUIT is the immediate shutdown: nothing in a test's server is worth
        // a checkpoint, but its shared memory must go.
        let logs = self
            .folder
            .parent()
            .expect("a server lies in its world")
            .join("logs");
        let mut server = Process::spawn(&self.name, &logs, &mut command).gently(Signal::QUIT);
        eventually_within(
            Duration::from_secs(60),
            &format!("{} accepts connections", self.name),
            || {
                assert!(server.running(), "PostgreSQL ended:\n{}", server.report(30));
                self.try_query("SELECT 1").map(|_| ())
            },
        );
        self.server = Some(server);
    }

    /// Immediate shutdown, as a crash: what was committed is recovered at the
    /// next start.
    #[track_caller]
    pub fn crash(&mut self) {
        self.end(Signal::QUIT);
    }

    /// Fast shutdown: archives what is there, writes a checkpoint.
    #[track_caller]
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// Waits until it ends by itself, as a recovery that stops does.
    #[track_caller]
    pub fn await_end(&mut self) -> ExitStatus {
        let status = self.process().wait_within(Duration::from_secs(60));
        self.server = None;
        status
    }

    /// Starts it again with a clock that [`Postgres::step_clock`] can set.
    #[track_caller]
    pub fn with_own_clock(&mut self) {
        self.stop();
        self.clock = Some(Clock::new(&self.folder));
        self.start_again();
    }

    /// From now on its clock is so many seconds ahead of the machine's, or behind.
    #[track_caller]
    pub fn step_clock(&self, seconds: i64) {
        let clock = self.clock.as_ref().expect("a clock of its own");
        clock.step(seconds);
    }

    /// Copies the stopped server's data: a backup to come back to.
    #[track_caller]
    pub fn back_up(&self) {
        assert!(self.server.is_none(), "{} runs", self.name);
        copy(&self.data, &self.folder.join("backup"));
    }

    /// The stopped server's data is the backup's again.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "a file of the test's own making")]
    pub fn restore(&self) {
        assert!(self.server.is_none(), "{} runs", self.name);
        std::fs::rename(&self.data, self.folder.join("lost")).expect("put the data aside");
        copy(&self.folder.join("backup"), &self.data);
    }

    /// Takes every connection that there is, those of `program` too.
    #[track_caller]
    pub fn crowd_out(&mut self, program: &str) {
        let address = format!(
            "host=127.0.0.1 port={} user=postgres dbname=postgres connect_timeout=5",
            self.port.number()
        );
        let kill = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
              WHERE application_name LIKE '{program}%'"
        );
        let count =
            format!("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE '{program}%'");
        let runtime = self.runtime.clone();
        crate::eventually("every connection is taken", || {
            runtime.block_on(async {
                let named = format!("{address} application_name=crowd");
                while let Ok((client, connection)) = tokio_postgres::connect(&named, NoTls).await {
                    tokio::spawn(connection);
                    self.crowd.push(client);
                }
                let first = self.crowd.first().ok_or("none was free")?;
                let theirs = first.simple_query(&count).await;
                let theirs = theirs.map_err(|_| "the first was lost")?;
                if !theirs.iter().any(is_row) {
                    return Ok(());
                }
                drop(first.simple_query(&kill).await);
                Err("they have some")
            })
        });
    }

    /// Gives the connections back.
    pub fn disperse(&mut self) {
        self.crowd.clear();
    }

    /// The server's process, for SIGSTOP and such.
    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        self.server.as_mut().expect("the server runs")
    }

    /// Writes settings and reloads them.
    #[track_caller]
    pub fn set(&mut self, options: &[(&str, &str)]) {
        for (name, value) in options {
            self.execute(&format!(
                "ALTER SYSTEM SET {name} = '{}'",
                value.replace('\'', "''")
            ));
        }
        self.execute("SELECT pg_reload_conf()");
    }

    /// Runs SQL and returns the rows of its last statement, columns as text.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.query_in("postgres", sql)
    }

    /// The same in another database.
    #[track_caller]
    pub fn query_in(&self, database: &str, sql: &str) -> Vec<Vec<Option<String>>> {
        self.try_query_in(database, sql)
            .unwrap_or_else(|error| panic!("{} answers `{sql}`: {error}", self.name))
    }

    /// The same, with the error as a value.
    pub fn try_query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        self.try_query_in("postgres", sql)
    }

    /// The same in another database, with the error as a value.
    pub fn try_query_in(
        &self,
        database: &str,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, String> {
        let address = format!(
            "host=127.0.0.1 port={} user=postgres dbname={database} connect_timeout=5",
            self.port.number()
        );
        let work = async {
            let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
            let driver = tokio::spawn(connection);
            let answer = client.simple_query(sql).await;
            drop(client);
            let _ = driver.await;
            answer
        };
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await })
            .map_err(|_| "no answer within 60 s".to_owned())?
            .map_err(|error| match error.as_db_error() {
                Some(error) => error.to_string(),
                None => format!("{error:?}"),
            })?;
        let mut rows = Vec::new();
        for message in answer {
            match message {
                SimpleQueryMessage::Row(row) => rows.push(
                    (0..row.len())
                        .map(|column| row.get(column).map(Into::into))
                        .collect(),
                ),
                SimpleQueryMessage::CommandComplete(_) | SimpleQueryMessage::RowDescription(_) => {}
                _ => {}
            }
        }
        Ok(rows)
    }

    /// Runs SQL for its effect.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        self.query(sql);
    }

    /// The first column of the only row.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        let rows = self.query(sql);
        match rows.as_slice() {
            [row] => row[0].clone().unwrap_or_default(),
            rows => panic!("one row awaited from `{sql}`, got {rows:?}"),
        }
    }

    /// The system identifier.
    pub fn system_id(&self) -> u64 {
        self.value("SELECT system_identifier FROM pg_control_system()")
            .parse()
            .expect("a number")
    }

    /// Bytes of a WAL segment.
    pub fn segment_size(&self) -> u64 {
        self.value("SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")
            .parse()
            .expect("a number")
    }

    /// Writes something and switches to the next segment; returns the name of
    /// the one just finished.
    #[track_caller]
    pub fn switch(&self) -> String {
        // A switch right after a switch does nothing: something must be written.
        self.execute("SELECT pg_logical_emit_message(false, 'walferry', repeat('switch ', 100))");
        self.value("SELECT pg_walfile_name(pg_switch_wal())")
    }

    /// Makes pgbench's tables.
    #[track_caller]
    pub fn pgbench_init(&self, scale: u32) {
        self.pgbench(&["-i", "-q", "-s", &scale.to_string()]).ok();
    }

    /// Runs pgbench's default transactions.
    #[track_caller]
    pub fn pgbench_run(&self, transactions: u32) {
        self.pgbench(&["-n", "-c", "2", "-t", &transactions.to_string()])
            .ok();
    }

    /// One field of `pg_stat_archiver`.
    #[track_caller]
    pub fn archiver(&self, column: &str) -> String {
        self.value(&format!("SELECT {column} FROM pg_stat_archiver"))
    }

    /// A base backup of this server into `<folder>/<name>/data`, as the server's
    /// user; `arguments` go to `pg_basebackup`.
    #[track_caller]
    pub fn base_backup(&self, folder: &Path, name: &str, arguments: &[&str]) -> PathBuf {
        let folder = folder.join(name);
        scratch::make(&folder, 0o755);
        User::Postgres.own(&folder, None);
        let data = folder.join("data");
        let mut command = self.client("pg_basebackup");
        command
            .arg("-D")
            .arg(&data)
            .args(["-c", "fast"])
            .args(arguments);
        run(&mut command).ok();
        data
    }

    /// A client program, told where this server is.
    pub fn client(&self, program: &str) -> Command {
        let mut command = User::Postgres.command(postgres_bin().join(program));
        command
            .current_dir(&self.folder)
            .env_clear()
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.number().to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres");
        command
    }

    /// `postgres://…` for a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable",
            self.port.number()
        )
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The `pg_wal` folder.
    pub fn pg_wal(&self) -> PathBuf {
        self.data.join("pg_wal")
    }

    /// The end of the server's log.
    pub fn report(&self, lines: usize) -> String {
        self.server
            .as_ref()
            .map(|server| server.report(lines))
            .unwrap_or_default()
    }

    fn pgbench(&self, arguments: &[&str]) -> Finished {
        run(self.client("pgbench").args(arguments))
    }

    fn configure(&mut self, options: &[(String, String)]) {
        let path = self.data.join("postgresql.conf");
        let mut text = std::fs::read_to_string(&path).expect("read postgresql.conf");
        for (name, value) in options {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        std::fs::write(&path, text).expect("write postgresql.conf");
    }

    #[track_caller]
    fn end(&mut self, signal: Signal) {
        let mut server = self.server.take().expect("the server runs");
        server.signal(signal);
        server.wait();
    }
}

fn is_row(message: &SimpleQueryMessage) -> bool {
    matches!(message, SimpleQueryMessage::Row(_))
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to)).ok();
}
