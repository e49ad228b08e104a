//! A TCP proxy that is late by what it is told, and as wide.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use super::{BUFFER, at_once};

/// Bytes of one connection that may be under way at once, each way: the window. It is what a
/// round trip of 200 ms needs for 160 MB/s.
const WINDOW: usize = 16 << 20;

/// How slow a link is. The default is not slow at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// What a request and its answer take longer; a new connection takes one more.
    pub round_trip: Duration,
    /// Bytes per second towards the server; `None` is as fast as this machine.
    pub up: Option<u64>,
    /// Bytes per second towards the client.
    pub down: Option<u64>,
}

/// When the link is free again, in one direction, and how wide it is.
#[derive(Debug)]
struct Lane {
    rate: Option<u64>,
    free: Mutex<Instant>,
}

impl Lane {
    fn new(rate: Option<u64>) -> Arc<Lane> {
        Arc::new(Lane {
            rate,
            free: Mutex::new(Instant::now()),
        })
    }

    /// Waits until so many bytes have left, behind those of other connections.
    async fn pass(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let takes = Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate.max(1));
        let sent = {
            let mut free = self.free.lock().await;
            *free = (*free).max(Instant::now()) + takes;
            *free
        };
        sleep_until(sent).await;
    }
}

pub(super) async fn serve(listener: TcpListener, upstream: SocketAddr, link: Link) {
    let (up, down) = (Lane::new(link.up), Lane::new(link.down));
    while let Ok((client, _)) = listener.accept().await {
        let (up, down) = (up.clone(), down.clone());
        tokio::spawn(async move {
            // The client was told at once that it is connected; over such a link it would
            // have learned that one round trip later.
            let connected = Instant::now() + link.round_trip;
            let Ok(server) = TcpStream::connect(upstream).await else {
                return;
            };
            at_once(&client);
            at_once(&server);
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let half = link.round_trip / 2;
            tokio::join!(
                carry(from_client, to_server, up, half, connected),
                carry(from_server, to_client, down, half, connected),
            );
        });
    }
}

/// Carries bytes one way, each `late` after it was read and none read before `begin`, until
/// either side ends.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    lane: Arc<Lane>,
    late: Duration,
    begin: Instant,
) {
    sleep_until(begin).await;
    let room = Arc::new(Semaphore::new(WINDOW));
    let (sender, mut arriving) = mpsc::unbounded_channel();
    let read = async {
        loop {
            let mut piece = Vec::with_capacity(BUFFER);
            match from.read_buf(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let Ok(bytes) = u32::try_from(piece.len()) else {
                break;
            };
            let Ok(place) = room.clone().acquire_many_owned(bytes).await else {
                break;
            };
            lane.pass(piece.len()).await;
            if sender.send((Instant::now() + late, piece, place)).is_err() {
                break;
            }
        }
        drop(sender);
    };
    let write = async {
        while let Some((due, piece, place)) = arriving.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                break;
            }
            drop(place);
        }
        arriving.close();
        // What was lost in the middle is lost; the other side sees the end.
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};

    use super::*;

    /// A link to a server that sends back what it was sent.
    fn echo(link: Link) -> (tokio::runtime::Runtime, SocketAddr) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let address = runtime.block_on(async {
            let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let upstream = server.local_addr().expect("bound");
            tokio::spawn(async move {
                while let Ok((stream, _)) = server.accept().await {
                    tokio::spawn(async move {
                        let (mut from, mut to) = stream.into_split();
                        let _ = tokio::io::copy(&mut from, &mut to).await;
                    });
                }
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("bound");
            tokio::spawn(serve(listener, upstream, link));
            address
        });
        (runtime, address)
    }

    fn round_trip(stream: &mut TcpStream) -> Duration {
        let began = std::time::Instant::now();
        stream.write_all(b"x").expect("write");
        stream.read_exact(&mut [0]).expect("read");
        began.elapsed()
    }

    #[test]
    fn a_link_is_late_by_a_round_trip_and_by_two_on_a_new_connection() {
        let (_runtime, address) = echo(Link {
            round_trip: Duration::from_millis(100),
            ..Link::default()
        });
        let mut stream = TcpStream::connect(address).expect("connect");
        let first = round_trip(&mut stream);
        let second = round_trip(&mut stream);
        assert!(
            (200..300).contains(&first.as_millis()) && (100..200).contains(&second.as_millis()),
            "{first:?} {second:?}"
        );
    }

    #[test]
    fn a_late_link_is_as_wide_as_before_and_changes_nothing() {
        let (_runtime, address) = echo(Link {
            round_trip: Duration::from_millis(100),
            ..Link::default()
        });
        let sent: Vec<u8> = (0..20_000_000_u32)
            .map(|n| (n ^ (n >> 8)).to_le_bytes()[0])
            .collect();
        let began = std::time::Instant::now();
        let mut stream = TcpStream::connect(address).expect("connect");
        let mut writer = stream.try_clone().expect("clone");
        let mut got = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&sent).expect("write");
                writer.shutdown(Shutdown::Write).expect("shut down");
            });
            stream.read_to_end(&mut got).expect("read");
        });
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
        // A link that waited for each piece would take half a minute.
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{:?}",
            began.elapsed()
        );
    }

    #[test]
    fn a_narrow_link_is_shared_by_its_connections() {
        let (_runtime, address) = echo(Link {
            up: Some(1_000_000),
            ..Link::default()
        });
        let began = std::time::Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut stream = TcpStream::connect(address).expect("connect");
                    stream.write_all(&[7; 250_000]).expect("write");
                    stream.read_exact(&mut [0; 250_000]).expect("read");
                });
            }
        });
        let took = began.elapsed().as_millis();
        assert!((450..1500).contains(&took), "{took} ms");
    }
}
