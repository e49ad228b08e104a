//! What stands before the S3 servers: TLS with a CA of our own, since pgBackRest speaks
//! nothing else, and a link that is slow in the ways that are asked for. Everybody who is
//! compared goes through the same: client, link, TLS, server.

mod link;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use walferry_tests::World;
use walferry_tests::tls::Authority;

pub use link::Link;

use crate::usage::Usage;

/// Bytes that are read at once, each way.
const BUFFER: usize = 128 << 10;

/// The threads' name, to count what they use.
const THREADS: &str = "front";

/// Fronts on threads of their own, in this process.
#[derive(Debug)]
pub struct Fronts {
    authority: Authority,
    connections: Arc<AtomicU64>,
    runtime: Runtime,
}

impl Fronts {
    /// Makes a CA in `folder`, and starts the threads.
    ///
    /// # Panics
    /// When there is no such folder.
    #[must_use]
    pub fn new(folder: &Path) -> Fronts {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(THREADS)
            .enable_all()
            .build()
            .expect("a runtime");
        Fronts {
            authority: Authority::new(folder),
            connections: Arc::default(),
            runtime,
        }
    }

    /// The file to trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.authority.ca()
    }

    /// TLS as 127.0.0.1 in front of a plain server; where it listens.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn tls(&self, upstream: SocketAddr) -> SocketAddr {
        let acceptor = self.authority.acceptor();
        let connections = self.connections.clone();
        let (listener, address) = self.listen();
        self.runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    at_once(&client);
                    let Ok(mut tls) = acceptor.accept(client).await else {
                        return;
                    };
                    if let Ok(mut server) = TcpStream::connect(upstream).await {
                        at_once(&server);
                        // Either side may leave in the middle.
                        let _ = tokio::io::copy_bidirectional_with_sizes(
                            &mut tls,
                            &mut server,
                            BUFFER,
                            BUFFER,
                        )
                        .await;
                    }
                });
            }
        });
        address
    }

    /// A slow link to `upstream`; where it listens. All its connections share its bandwidth.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn link(&self, upstream: SocketAddr, link: Link) -> SocketAddr {
        let (listener, address) = self.listen();
        self.runtime.spawn(link::serve(listener, upstream, link));
        address
    }

    /// Puts TLS, and a link if one is given, in front of each cloud of the world, and tells
    /// the programs started from now on to go there and to trust the CA. Where they listen,
    /// in the order of the world's clouds.
    ///
    /// # Panics
    /// When a cloud is called neither `r2` nor `b2`.
    pub fn before(&self, world: &mut World, link: Option<Link>) -> Vec<SocketAddr> {
        let clouds: Vec<(String, SocketAddr)> = world
            .clouds()
            .iter()
            .map(|cloud| (cloud.name().to_owned(), cloud.bucket().address()))
            .collect();
        clouds
            .into_iter()
            .map(|(name, server)| {
                let tls = self.tls(server);
                let front = link.map_or(tls, |link| self.link(tls, link));
                let variable = match name.as_str() {
                    "r2" => "CLOUDFLARE_R2_ENDPOINT_URL",
                    "b2" => "BACKBLAZE_B2_ENDPOINT_URL",
                    other => panic!("no variable is known for cloud `{other}`"),
                };
                world.set_variable(variable, &format!("https://{front}"));
                world.set(
                    &format!("repositories.{name}.ca_certificates"),
                    &self.ca().display().to_string(),
                );
                front
            })
            .collect()
    }

    /// How many connections were made over TLS so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The processor time that the fronts' threads used so far.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        Usage::of_threads(std::process::id())
            .into_iter()
            .filter_map(|(name, used)| name.starts_with(THREADS).then_some(used))
            .sum()
    }

    fn listen(&self) -> (TcpListener, SocketAddr) {
        let listener = self
            .runtime
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        (listener, address)
    }
}

/// No waiting for more bytes to send: what is late here would be counted as the program's.
fn at_once(stream: &TcpStream) {
    stream.set_nodelay(true).expect("a TCP stream");
}
