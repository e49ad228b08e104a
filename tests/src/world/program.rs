//! Workers and schedulers of a world.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::World;
use crate::clock::Clock;
use crate::process::{self, Process};
use crate::wait::PATIENCE;

/// A running worker or scheduler. The world keeps a handle too and ends it.
#[derive(Debug, Clone)]
pub struct Program {
    process: Arc<Mutex<Process>>,
    health: PathBuf,
}

impl World {
    /// Starts a worker and waits until it is alive.
    #[track_caller]
    pub fn worker(&self) -> Program {
        self.worker_with(&[])
    }

    /// Starts a worker with settings of its own (`worker.slots`) and waits until
    /// it is alive.
    #[track_caller]
    pub fn worker_with(&self, settings: &[(&str, &str)]) -> Program {
        self.start("worker", settings).await_alive()
    }

    /// Workers and schedulers started from now on have a clock that
    /// [`World::step_clock`] can set.
    #[track_caller]
    pub fn with_own_clock(&mut self) {
        self.clock = Some(Clock::new(self.folder()));
    }

    /// From now on the clock of those is so many seconds ahead of the machine's, or behind.
    #[track_caller]
    pub fn step_clock(&self, seconds: i64) {
        self.clock
            .as_ref()
            .expect("a clock of its own")
            .step(seconds);
    }

    /// Starts a scheduler and waits until it is alive.
    #[track_caller]
    pub fn scheduler(&self) -> Program {
        self.scheduler_with(&[])
    }

    /// Starts a scheduler with settings of its own and waits until it is alive.
    #[track_caller]
    pub fn scheduler_with(&self, settings: &[(&str, &str)]) -> Program {
        self.start("scheduler", settings).await_alive()
    }

    /// Starts `walferry-<role>` and returns at once.
    #[track_caller]
    pub fn start(&self, role: &str, settings: &[(&str, &str)]) -> Program {
        let number = self.programs.borrow().len() + 1;
        let name = format!("{role}-{number}");
        let health = self.folder().join("health").join(&name);
        let mut variables = self.settings.clone();
        // The scheduler holds no cloud key; it must do without.
        if role == "scheduler" {
            variables.retain(|name, _| {
                !name.starts_with("CLOUDFLARE_") && !name.starts_with("BACKBLAZE_")
            });
        }
        let address_file = health.display().to_string();
        for (name, value) in [
            ("health_address", "127.0.0.1:0"),
            ("health_address_file", &address_file),
        ] {
            variables.insert(super::variable(&format!("{role}.{name}")), value.into());
        }
        for (name, value) in settings {
            variables.insert(super::variable(name), (*value).into());
        }
        let program = self.program_path(&format!("walferry-{role}"));
        let mut command = match &self.clock {
            None => self.user.command(program),
            Some(clock) => {
                let mut command = self.user.command("/usr/bin/env");
                command.args(clock.variables()).arg(program);
                command
            }
        };
        process::environment(&mut command, &variables);
        command.current_dir(self.folder());
        let program = Program {
            process: Arc::new(Mutex::new(Process::spawn(
                &name,
                &self.folder().join("logs"),
                &mut command,
            ))),
            health,
        };
        self.programs.borrow_mut().push(program.clone());
        program
    }
}

impl Program {
    /// The process, for what has no method here.
    pub fn process(&self) -> MutexGuard<'_, Process> {
        // A test that panicked under the lock still wants its programs ended.
        self.process
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Its name: `worker-1`.
    pub fn name(&self) -> String {
        self.process().name().to_owned()
    }

    /// Waits until `/healthz` says 200.
    #[track_caller]
    pub fn await_alive(self) -> Program {
        let name = self.name();
        crate::eventually(&format!("{name} is alive"), || {
            if !self.process().running() {
                panic!("{name} ended:\n{}", self.process().report(40));
            }
            let (status, body) = self.http("/healthz")?;
            crate::wait::is(status == 200, format!("{status}: {body}"))
        });
        self
    }

    /// Waits until `/readyz` says 200.
    #[track_caller]
    pub fn await_ready(&self) {
        crate::eventually(&format!("{} is ready", self.name()), || {
            let (status, body) = self.http("/readyz")?;
            crate::wait::is(status == 200, format!("{status}: {body}"))
        });
    }

    /// Status and body of a page of its health server.
    pub fn http(&self, path: &str) -> Result<(u16, String), String> {
        get(self.health_address()?, path).map_err(|error| error.to_string())
    }

    /// One sample of `/metrics`, by its name and labels as they are printed.
    #[track_caller]
    pub fn metric(&self, series: &str) -> Option<f64> {
        let (status, body) = self.http("/metrics").expect("metrics");
        assert_eq!(status, 200, "{body}");
        body.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Where its health server listens.
    pub fn health_address(&self) -> Result<SocketAddr, String> {
        let text = std::fs::read_to_string(&self.health)
            .map_err(|error| format!("no address yet: {error}"))?;
        text.trim()
            .parse()
            .map_err(|error| format!("`{text}`: {error}"))
    }

    /// SIGTERM; it drains and ends on its own.
    #[track_caller]
    pub fn terminate(&self) {
        self.process().terminate();
    }

    /// SIGKILL, and waits until it is gone.
    #[track_caller]
    pub fn kill(&self) {
        self.process().kill();
    }

    /// SIGSTOP.
    #[track_caller]
    pub fn freeze(&self) {
        self.process().freeze();
    }

    /// SIGCONT.
    #[track_caller]
    pub fn thaw(&self) {
        self.process().thaw();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&self) -> ExitStatus {
        self.process().wait_within(PATIENCE)
    }

    /// Whether it runs.
    pub fn running(&self) -> bool {
        self.process().running()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process().stderr()
    }

    /// Waits until its log contains `text`.
    #[track_caller]
    pub fn await_log(&self, text: &str) {
        self.process().await_stderr(text);
    }
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}
