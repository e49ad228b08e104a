//! A Redis of the world's own, durable as the issue wants it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clock::Clock;
use crate::ports::Port;
use crate::process::Process;
use crate::{eventually, scratch};

/// A Redis server with an append-only file.
#[derive(Debug)]
pub struct RedisServer {
    folder: PathBuf,
    port: Port,
    server: Option<Process>,
    clock: Option<Clock>,
}

impl RedisServer {
    /// Starts one in `<folder>/redis`.
    pub fn start(folder: &Path) -> RedisServer {
        let folder = folder.join("redis");
        scratch::make(&folder, 0o755);
        let mut redis = RedisServer {
            folder,
            port: Port::take(),
            server: None,
            clock: None,
        };
        redis.start_again();
        redis
    }

    /// Starts the stopped server and waits until it answers.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "Redis runs already");
        let mut command = Command::new("/usr/bin/env");
        command
            .args(self.clock.iter().flat_map(Clock::variables))
            .arg("/usr/bin/redis-server")
            .current_dir(&self.folder)
            .args(["--port", &self.port.number().to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .args([
                "--appendfsync",
                "everysec",
                "--maxmemory-policy",
                "noeviction",
            ])
            .arg("--dir")
            .arg(&self.folder);
        let logs = self
            .folder
            .parent()
            .expect("Redis lies in its world")
            .join("logs");
        let mut server = Process::spawn("redis", &logs, &mut command);
        eventually("Redis answers", || {
            assert!(server.running(), "Redis ended:\n{}", server.report(30));
            self.try_command(&["PING"]).map(|_| ())
        });
        self.server = Some(server);
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(&mut self) {
        self.server.take().expect("Redis runs").kill();
    }

    /// Loses everything: killed, its files removed, started empty.
    #[track_caller]
    pub fn lose_everything(&mut self) {
        self.kill();
        remove(&self.folder.join("appendonlydir"));
        self.start_again();
    }

    /// Starts it again with a clock that [`RedisServer::step_clock`] can set.
    #[track_caller]
    pub fn with_own_clock(&mut self) {
        self.kill();
        self.clock = Some(Clock::new(&self.folder));
        self.start_again();
    }

    /// From now on its clock is so many seconds ahead of the machine's, or behind.
    #[track_caller]
    pub fn step_clock(&self, seconds: i64) {
        let clock = self.clock.as_ref().expect("a clock of its own");
        clock.step(seconds);
    }

    /// Copies what a replica would have now.
    #[track_caller]
    pub fn copy(&self) {
        let kept = self.folder.join("copy");
        if kept.exists() {
            remove(&kept);
        }
        copy(&self.folder.join("appendonlydir"), &kept);
    }

    /// SIGKILL, and what was copied before goes on in its place.
    #[track_caller]
    pub fn fail_over(&mut self) {
        self.kill();
        let current = self.folder.join("appendonlydir");
        remove(&current);
        copy(&self.folder.join("copy"), &current);
        self.start_again();
    }

    /// The server's process, for SIGSTOP and such.
    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        self.server.as_mut().expect("Redis runs")
    }

    /// Whether it was started and not killed.
    pub fn is_running(&self) -> bool {
        self.server.is_some()
    }

    /// One command; fails the test on an error.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> redis::Value {
        self.try_command(words)
            .unwrap_or_else(|error| panic!("Redis answers {words:?}: {error}"))
    }

    /// One command whose answer is an integer.
    #[track_caller]
    pub fn integer(&self, words: &[&str]) -> i64 {
        redis::from_redis_value(self.command(words)).expect("an integer")
    }

    /// One command whose answer is a list of strings.
    #[track_caller]
    pub fn strings(&self, words: &[&str]) -> Vec<String> {
        redis::from_redis_value(self.command(words)).expect("a list of strings")
    }

    /// One command, with the error as a value.
    pub fn try_command(&self, words: &[&str]) -> Result<redis::Value, redis::RedisError> {
        let client = redis::Client::open(self.url())?;
        let mut connection =
            client.get_connection_with_timeout(std::time::Duration::from_secs(5))?;
        connection.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query(&mut connection)
    }

    /// `redis://…`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port.number())
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The end of the server's log.
    pub fn report(&self, lines: usize) -> String {
        self.server
            .as_ref()
            .map(|server| server.report(lines))
            .unwrap_or_default()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a folder of the test's own making"
)]
fn remove(folder: &Path) {
    std::fs::remove_dir_all(folder).expect("remove the append-only folder");
}

fn copy(from: &Path, to: &Path) {
    crate::process::run(Command::new("cp").arg("-a").arg(from).arg(to)).ok();
}
