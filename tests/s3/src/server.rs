//! s3s-fs behind a listener of our own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::bucket::BucketMustExist;

/// How long requests may go on after `stop`.
const GRACE: Duration = Duration::from_secs(10);

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Made if it does not exist. Objects are plain files, `<root>/<bucket>/<key>`.
    pub root: PathBuf,
    pub access_key: String,
    pub secret_key: String,
    /// Made if they do not exist.
    pub buckets: Vec<String>,
}

/// A running server that checks signatures. Dropped, it is killed: open connections break.
pub struct Server {
    address: SocketAddr,
    options: Options,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Options {
    /// A free port, one bucket `walferry`, and keys to match.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            root: root.into(),
            access_key: "walferry-key".to_owned(),
            secret_key: "walferry-secret".to_owned(),
            buckets: vec!["walferry".to_owned()],
        }
    }
}

impl Server {
    /// Starts a server; it answers when this returns.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        for bucket in &options.buckets {
            let path = options.root.join(bucket);
            std::fs::create_dir_all(&path)
                .with_context(|| format!("create bucket `{}`", path.display()))?;
        }
        let service = service(&options)?;
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("listen on {}", options.listen))?;
        let address = listener.local_addr().context("read own address")?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, service, stopped));
        Ok(Self {
            address,
            options,
            stop: Some(stop),
            task,
        })
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was started with, `listen` as asked for.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Where the object lies as a file.
    pub fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.options.root.join(bucket).join(key)
    }

    pub fn root(&self) -> &Path {
        &self.options.root
    }

    /// Lets requests end, for ten seconds at most. The port is free afterwards.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // The other end is gone only if the task has ended.
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
    }

    /// Breaks every connection, as a crash does. The port is free afterwards.
    pub async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn service(options: &Options) -> anyhow::Result<S3Service> {
    std::fs::create_dir_all(&options.root)
        .with_context(|| format!("create `{}`", options.root.display()))?;
    let files = FileSystem::new(&options.root)
        .map_err(|error| anyhow::anyhow!("{error:?}"))
        .with_context(|| format!("open `{}`", options.root.display()))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(
        options.access_key.clone(),
        options.secret_key.clone(),
    ));
    builder.set_access(BucketMustExist {
        root: options.root.clone(),
    });
    Ok(builder.build())
}

/// Connections live in the set and die with this future.
async fn serve(listener: TcpListener, service: S3Service, mut stopped: oneshot::Receiver<()>) {
    let http = Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            Ok(()) = &mut stopped => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, or the peer is gone already: neither ends the server.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Without it each answer's last packet waits 40 ms for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let connection = http
            .serve_connection(TokioIo::new(stream), service.clone())
            .into_owned();
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            // A broken connection is the client's business.
            let _ = connection.await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
}
