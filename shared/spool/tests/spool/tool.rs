//! `examples/spool_tool` as a process: another user, an umask, a kill at a chosen system call.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::scratch::Scratch;

/// A group that both users are in; it needs no entry in `/etc/group`.
pub(crate) const SHARED: u32 = 27_532;

/// The worker's user, who is not PostgreSQL's.
pub(crate) const WORKER: u32 = 27_533;

/// Who runs a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) in_group: bool,
}

/// The tool as cargo built it.
pub(crate) fn tool() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let target = test.ancestors().nth(2).expect("a target folder");
    let tool = target.join("examples/spool_tool");
    assert!(tool.exists(), "`cargo test` builds the examples");
    tool
}

/// A copy of the tool in `folder`, where any user can execute it.
pub(crate) fn tool_in(folder: &Path) -> PathBuf {
    let path = folder.join("spool_tool");
    if !path.exists() {
        std::fs::copy(tool(), &path).expect("a copy of the tool");
    }
    path
}

/// Runs the tool as whoever runs the test.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(tool())
        .args(arguments)
        .output()
        .expect("it runs")
}

/// Runs the tool as another user.
pub(crate) fn run_as(user: User, scratch: &Scratch, arguments: &[&str]) -> Output {
    as_user(user, &tool_in(scratch.path()))
        .args(arguments)
        .output()
        .expect("it runs")
}

/// A command of another user, with the umask of a PostgreSQL server.
pub(crate) fn as_user(user: User, program: &Path) -> Command {
    assert!(
        is_root(),
        "this test runs PostgreSQL and the worker as two users: it needs root"
    );
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={}", user.uid))
        .arg(format!("--regid={}", user.uid))
        .arg(if user.in_group {
            format!("--groups={SHARED}")
        } else {
            "--clear-groups".into()
        })
        .args(["sh", "-c", "umask 077; exec \"$0\" \"$@\""])
        .arg(program);
    command
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs the tool under strace; what it wrote, and the trace.
pub(crate) fn traced(options: &[&str], arguments: &[&str]) -> (Output, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("trace");
    let output = strace(&log, options, arguments)
        .output()
        .expect("`strace` is installed: apt-get install strace");
    let trace = std::fs::read_to_string(&log).unwrap_or_default();
    (output, trace)
}

pub(crate) fn strace(log: &Path, options: &[&str], arguments: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-y", "-o"])
        .arg(log)
        .args(options)
        .arg(tool())
        .args(arguments);
    command
}

pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Every system call that the tool makes from the first that names `archive` on, as an option
/// of strace that kills it there, just before the call is made.
pub(crate) fn kills(arguments: &[&str]) -> Vec<String> {
    let (output, trace) = traced(&[], arguments);
    assert!(output.status.success(), "{}", text(&output));
    let mut counts = std::collections::BTreeMap::new();
    let mut kills = Vec::new();
    let mut began = false;
    for line in trace.lines() {
        // `PID name(arguments…`; signals and the end have no parenthesis right after a word.
        let Some((call, _)) = line
            .split_once(' ')
            .and_then(|(_, rest)| rest.trim_start().split_once('('))
        else {
            continue;
        };
        if !call
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            continue;
        }
        let nth = counts.entry(call.to_owned()).or_insert(0);
        *nth += 1;
        began |= line.contains("/archive") && call.starts_with("open");
        if began && !call.starts_with("exit") {
            kills.push(format!("inject={call}:signal=KILL:when={nth}"));
        }
    }
    kills
}
