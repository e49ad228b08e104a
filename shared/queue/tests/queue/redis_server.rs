use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use walferry_queue::RedisSettings;

/// A Redis server as the queue demands it: append-only file, no eviction.
pub(crate) struct RedisServer {
    pub(crate) directory: TempDir,
    pub(crate) port: u16,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| Vec::new())
    }

    /// `more` arguments may name files in the server's directory.
    pub(crate) fn start_with(more: impl Fn(&Path) -> Vec<String>) -> Self {
        // Another program may take the port in between: try again then.
        for _ in 0..10 {
            let directory = tempfile::tempdir().unwrap();
            let mut server = Self {
                port: free_port(),
                arguments: more(directory.path()),
                directory,
                process: None,
            };
            if server.try_run() {
                return server;
            }
        }
        panic!("no free port for redis-server");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn settings(&self) -> RedisSettings {
        RedisSettings::new(self.url())
    }

    /// A plain connection, to look behind the queue's back.
    pub(crate) fn raw(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_connection().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.process.take().unwrap().wait().unwrap();
    }

    /// Starts again on the same port with the same data.
    pub(crate) fn revive(&mut self) {
        assert!(self.try_run(), "redis-server does not start again");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.process.as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    fn try_run(&mut self) -> bool {
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--appendonly", "yes", "--appendfsync", "everysec"])
            .args(["--save", "", "--maxmemory-policy", "noeviction"])
            .args(["--enable-debug-command", "yes"])
            .args(&self.arguments)
            .current_dir(self.directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed");
        // Kept at once, so that a panic below does not leave it behind.
        let process = self.process.insert(process);
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if process.try_wait().unwrap().is_some() {
                self.process = None;
                return false;
            }
            let answer = client
                .get_connection()
                .and_then(|mut c| redis::cmd("PING").query::<String>(&mut c));
            if answer.is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("redis-server does not answer");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
