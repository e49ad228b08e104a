//! A program under test as a process: output kept in files, signals, waiting
//! for its end, and certain death when the test is over.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::wait::{PATIENCE, eventually_within};

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    output: PathBuf,
    errors: PathBuf,
    /// What [`Process::stop`] sends first when dropped.
    gentle: Option<Signal>,
}

/// A program that has run to its end.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code, or 128 plus the signal's number, as a shell has it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Process {
    /// Starts `command`, its output going to `<folder>/<name>.out` and `.err`.
    /// It stays in the test's process group, so that whoever kills the group
    /// (nextest, at a timeout) kills it too.
    pub fn spawn(name: &str, folder: &Path, command: &mut Command) -> Process {
        let output = folder.join(format!("{name}.out"));
        let errors = folder.join(format!("{name}.err"));
        let append = |path: &Path| -> File {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap_or_else(|error| panic!("open {}: {error}", path.display()))
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(append(&output))
            .stderr(append(&errors))
            .spawn()
            .unwrap_or_else(|error| panic!("start {name} ({command:?}): {error}"));
        Process {
            name: name.into(),
            child,
            ended: None,
            output,
            errors,
            gentle: None,
        }
    }

    /// The same program is asked with `signal` first, and killed a few seconds
    /// later, when dropped: servers that remove shared memory on their way out.
    pub fn gently(mut self, signal: Signal) -> Process {
        self.gentle = Some(signal);
        self
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        assert!(self.ended.is_none(), "{} has ended already", self.name);
        rustix::process::kill_process(self.pid(), signal)
            .unwrap_or_else(|error| panic!("signal {}: {error}", self.name));
    }

    /// SIGTERM; the process drains and ends on its own.
    #[track_caller]
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL, and waits until it is gone.
    #[track_caller]
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            self.signal(Signal::KILL);
            self.wait();
        }
    }

    /// SIGSTOP, and waits until the kernel says that it stands still.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        eventually_within(PATIENCE, "the process stands still", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()));
            let stat = stat.unwrap_or_default();
            match stat.rsplit(") ").next() {
                Some(rest) if rest.starts_with('T') => Ok(()),
                _ => Err(stat),
            }
        });
    }

    /// SIGCONT.
    #[track_caller]
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        self.look().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(PATIENCE)
    }

    /// Waits for its end, for so long.
    #[track_caller]
    pub fn wait_within(&mut self, deadline: Duration) -> ExitStatus {
        let name = self.name.clone();
        eventually_within(deadline, &format!("{name} ends"), || {
            self.look().ok_or("still running")
        })
    }

    /// Everything it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.errors)
    }

    /// Everything it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.output)
    }

    /// Waits until standard error contains `text`.
    #[track_caller]
    pub fn await_stderr(&mut self, text: &str) {
        let name = self.name.clone();
        crate::eventually(&format!("{name} says `{text}`"), || {
            let said = self.stderr();
            if said.contains(text) {
                return Ok(());
            }
            Err(match self.look() {
                Some(status) => format!("it ended with {status}: {}", tail(&said, 20)),
                None => tail(&said, 20),
            })
        });
    }

    /// The last lines of both outputs, for a failure message.
    pub fn report(&self, lines: usize) -> String {
        let mut report = String::new();
        for path in [&self.output, &self.errors] {
            let text = read(path);
            if !text.trim().is_empty() {
                report.push_str(&format!(
                    "--- {} ---\n{}\n",
                    path.display(),
                    tail(&text, lines)
                ));
            }
        }
        report
    }

    fn look(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("ask for the child's state");
        }
        self.ended
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.look().is_some() {
            return;
        }
        if let Some(signal) = self.gentle {
            let _ = rustix::process::kill_process(self.pid(), Signal::CONT);
            let _ = rustix::process::kill_process(self.pid(), signal);
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(10) {
                if self.look().is_some() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end and returns what it said. Panics after five
/// minutes: no command of ours takes that long.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = eventually_within(
        Duration::from_secs(300),
        &format!("{command:?} ends"),
        || {
            child
                .try_wait()
                .expect("ask for the child's state")
                .ok_or("still running")
        },
    );
    Finished {
        code: shell_code(status),
        stdout: stdout.join().expect("read standard output"),
        stderr: stderr.join().expect("read standard error"),
    }
}

impl Finished {
    /// Fails unless the exit code was 0; returns standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            self.code, 0,
            "exit code {}\nstdout: {}\nstderr: {}",
            self.code, self.stdout, self.stderr
        );
        self.stdout
    }

    /// Fails unless the exit code was this one; returns standard error.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> String {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        self.stderr
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "not JSON ({error}), exit code {}\nstdout: {}\nstderr: {}",
                self.code, self.stdout, self.stderr
            )
        })
    }
}

/// The exit code as a shell has it: 128 plus the signal's number for a signal.
pub fn shell_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Sets exactly these variables, and a `PATH`.
pub fn environment(command: &mut Command, variables: &BTreeMap<String, String>) {
    command
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .envs(variables)
        .envs(crate::environment::mutant());
}

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    let mut pipe = pipe.expect("the pipe was asked for");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("read a pipe");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
