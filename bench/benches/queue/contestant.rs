//! Who is compared, and how their programs are started.

use std::path::PathBuf;
use std::process::Command;

use walferry_tests::environment::repository;

/// One queue with its way of being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    Ours,
    /// One process for jobs per worker, so that "4 workers" means the same for all.
    CeleryOne,
    /// As `celery worker` starts without a word: one process for jobs per core.
    CeleryDefault,
    /// The setting that keeps the job of a killed worker.
    CeleryLate,
    ApalisRedis,
    /// An idle worker asks ten times a second, not at its heartbeats only.
    ApalisPolling,
}

/// How often the worker of [`Contestant::ApalisPolling`] asks, in milliseconds.
const POLL_MS: &str = "100";

impl Contestant {
    /// In the order of the tables.
    pub(crate) const ALL: [Contestant; 6] = [
        Contestant::Ours,
        Contestant::CeleryOne,
        Contestant::CeleryDefault,
        Contestant::CeleryLate,
        Contestant::ApalisPolling,
        Contestant::ApalisRedis,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Contestant::Ours => "walferry-queue",
            Contestant::CeleryOne => "Celery, `-c 1`",
            Contestant::CeleryDefault => "Celery, as it comes",
            Contestant::CeleryLate => "Celery, `-c 1`, `acks_late`",
            Contestant::ApalisPolling => "apalis-redis, polling",
            Contestant::ApalisRedis => "apalis-redis, as it comes",
        }
    }

    pub(crate) fn settings(self) -> &'static str {
        match self {
            Contestant::Ours => "defaults (lease 10 s, poll 500 ms), 1 slot",
            Contestant::CeleryOne => "defaults, 1 process per worker",
            Contestant::CeleryDefault => "defaults: prefork, 1 process per core",
            Contestant::CeleryLate => {
                "acknowledged at the end instead of the beginning; for a killed worker and a stall"
            }
            Contestant::ApalisPolling => {
                "defaults, and woken every 100 ms: without that an idle worker looks at its \
                 heartbeats only"
            }
            Contestant::ApalisRedis => {
                "defaults (batches of 10, heartbeat 30 s, 10 may be missed), no limit of jobs at a time"
            }
        }
    }

    pub(crate) fn version(self) -> String {
        match self {
            Contestant::Ours => env!("CARGO_PKG_VERSION").to_owned(),
            Contestant::ApalisRedis | Contestant::ApalisPolling => {
                let lock = repository().join("bench/peers/apalis-redis/Cargo.lock");
                let lock = std::fs::read_to_string(lock).expect("the peer's lock file is there");
                lock.split_once("name = \"apalis-redis\"\nversion = \"")
                    .and_then(|(_, rest)| rest.split('"').next())
                    .expect("the lock file names apalis-redis")
                    .to_owned()
            }
            _ => {
                let asked = "import celery, redis, platform; print(celery.__version__ + ', redis-py ' \
                             + redis.__version__ + ', Python ' + platform.python_version())";
                let mut python = Command::new(venv("python"));
                walferry_tests::process::run(python.args(["-c", asked]))
                    .ok()
                    .trim()
                    .to_owned()
            }
        }
    }

    /// A worker that notes each start in `starts` and begins once `gate` is there.
    pub(crate) fn worker(self, url: &str, starts: &str, gate: &str, number: usize) -> Command {
        match self {
            Contestant::Ours => {
                let mut command = this_program();
                command.args(["worker", url, starts, gate]);
                command
            }
            Contestant::ApalisRedis | Contestant::ApalisPolling => {
                let mut command = Command::new(apalis_redis());
                command.args(["worker", url, starts, gate]);
                if self == Contestant::ApalisPolling {
                    command.arg(POLL_MS);
                }
                command
            }
            _ => {
                let mut command = self.celery("celery", url);
                command.env("STARTS", starts).env("GATE", gate);
                command.args(["-A", "noop", "worker", "-n", &format!("w{number}@%h")]);
                if self != Contestant::CeleryDefault {
                    command.args(["-c", "1"]);
                }
                command
            }
        }
    }

    /// A producer that takes orders on standard input.
    pub(crate) fn producer(self, url: &str) -> Command {
        match self {
            Contestant::Ours => {
                let mut command = this_program();
                command.args(["produce", url]);
                command
            }
            Contestant::ApalisRedis | Contestant::ApalisPolling => {
                let mut command = Command::new(apalis_redis());
                command.args(["produce", url]);
                command
            }
            _ => {
                let mut command = self.celery("python", url);
                command.arg("noop.py");
                command
            }
        }
    }

    fn celery(self, program: &str, url: &str) -> Command {
        let mut command = Command::new(venv(program));
        let late = u8::from(self == Contestant::CeleryLate).to_string();
        command
            .current_dir(repository().join("bench/peers"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("C_FORCE_ROOT", "1")
            .env("REDIS_URL", url)
            .env("ACKS_LATE", late);
        command
    }
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("this program has a path"))
}

fn venv(program: &str) -> PathBuf {
    installed(repository().join("target/tools/bench/bin").join(program))
}

fn apalis_redis() -> PathBuf {
    installed(repository().join("target/tools/apalis-redis/release/bench-apalis-redis"))
}

fn installed(program: PathBuf) -> PathBuf {
    assert!(
        program.exists(),
        "{} is missing. HINT: `bench/install queue` brings it",
        program.display()
    );
    program
}
