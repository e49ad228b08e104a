//! A worker that is a process of its own, to be killed or frozen: this test binary
//! once more, told by the environment to play that part.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use walferry_queue::{Outcome, QueueSettings};

use crate::redis_server::RedisServer;
use crate::world::{Worker, quick};

const ENTRY: &str = "child::entry_point_of_worker_processes";
const PART: &str = "WALFERRY_QUEUE_TEST_CHILD";

pub(crate) struct WorkerProcess {
    process: Child,
    notes: PathBuf,
}

impl WorkerProcess {
    /// Its handler notes `began`, works for `args.work_ms`, says that it is done, and
    /// notes `ended`, also when it is dropped.
    pub(crate) fn start(redis: &RedisServer, default_settings: bool) -> Self {
        let notes = redis.directory.path().join("notes");
        let settings = if default_settings { "default" } else { "quick" };
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", ENTRY, "--nocapture", "--test-threads=1"])
            .env(
                PART,
                format!("{} {settings} {}", redis.url(), notes.display()),
            )
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, notes }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    pub(crate) fn notes(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.notes).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the environment is the only way to tell a test binary its part"
)]
fn entry_point_of_worker_processes() {
    let Some(part) = std::env::var_os(PART) else {
        // In an ordinary test run: the name by which it is called must be right.
        let here = std::thread::current().name().map(str::to_owned);
        assert_eq!(here.as_deref(), Some(ENTRY));
        return;
    };
    let part = part.into_string().unwrap();
    let mut words = part.split(' ');
    let mut word = || words.next().unwrap().to_owned();
    let (url, settings, notes) = (word(), word(), PathBuf::from(word()));
    let settings = if settings == "default" {
        QueueSettings::default()
    } else {
        quick()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let redis = walferry_queue::RedisSettings::new(url);
        let name = "test-queue".parse().unwrap();
        let queue = walferry_queue::Queue::new(redis, name, settings).unwrap();
        let worker = Worker::start(&queue, 1, Duration::from_secs(5), move |job, _| {
            let notes = notes.clone();
            async move {
                note(&notes, "began");
                let _end = End(notes);
                let work = Duration::from_millis(job.args["work_ms"].as_u64().unwrap());
                tokio::time::sleep(work).await;
                Outcome::Done
            }
        });
        worker.task.await.unwrap().unwrap();
    });
}

struct End(PathBuf);

impl Drop for End {
    fn drop(&mut self) {
        note(&self.0, "ended");
    }
}

fn note(file: &Path, what: &str) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    writeln!(file, "{what}").unwrap();
}
