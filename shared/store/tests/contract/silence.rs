//! Silence is bounded, time is not.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use walferry_store::{Retry, StoreError};

use crate::fake::{Fake, answer, read_request};
use crate::faults::all_causes;
use crate::servers::{open, settings};
use crate::{cause, failed, key, put, random};

const IDLE: Duration = Duration::from_millis(1000);

/// Long enough for a loaded machine, far below "never".
const SOON: Duration = Duration::from_secs(40);

async fn soon<T>(work: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(SOON, work).await;
    ended.expect("it ends in time")
}

#[tokio::test]
async fn a_cloud_that_takes_everything_and_says_nothing_ends_every_request() {
    let fake = Fake::handling(|mut stream| {
        Box::pin(async move {
            let mut sink = vec![0; 64 * 1024];
            while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        })
    })
    .await;
    let mut settings = fake.settings();
    settings.idle_timeout = Duration::from_millis(300);
    let causes = soon(all_causes(&*open(&settings))).await;
    assert!(causes.iter().all(|cause| *cause == "timeout"), "{causes:?}");
}

#[tokio::test]
async fn an_upload_that_stops_moving_fails_after_the_idle_time() {
    let fake = Fake::handling(|mut stream| {
        Box::pin(async move {
            let mut some = vec![0; 1024 * 1024];
            stream.read_exact(&mut some).await.expect("some of it");
            // Holds the connection and reads no more.
            std::future::pending::<()>().await;
        })
    })
    .await;
    let mut settings = fake.settings();
    settings.idle_timeout = IDLE;
    let body = random(32 * 1024 * 1024);
    let start = Instant::now();
    let error = failed(soon(put(&*open(&settings), &key("wal/1.gz"), &body)).await);
    assert_eq!((error.cause(), error.retry()), ("timeout", Retry::Later));
    assert!(
        matches!(error, StoreError::Timeout { idle: IDLE, .. }),
        "{error:?}"
    );
    assert!(start.elapsed() >= IDLE, "too early: {:?}", start.elapsed());
}

/// 30 s in all would be the end of every 16 MiB over a slow line.
#[tokio::test]
async fn a_slow_upload_takes_as_long_as_it_takes() {
    let fake = Fake::handling(|mut stream| Box::pin(async move { sip(&mut stream).await })).await;
    let mut settings = fake.settings();
    settings.idle_timeout = IDLE;
    let body = random(24 * 1024 * 1024);
    let start = Instant::now();
    put(&*open(&settings), &key("wal/1.gz"), &body)
        .await
        .expect("stored");
    assert!(
        start.elapsed() > 2 * IDLE,
        "not slow: {:?}",
        start.elapsed()
    );
}

/// Reads a request in small sips, with a pause after each.
async fn sip(stream: &mut TcpStream) {
    let mut sip = vec![0; 1024 * 1024];
    let mut left = 24 * 1024 * 1024_usize;
    while left > 0 {
        let read = stream.read(&mut sip).await.expect("a sip");
        assert!(read > 0, "the client gave up");
        left = left.saturating_sub(read);
        tokio::time::sleep(IDLE * u32::try_from(read).expect("small") / (8 * 1024 * 1024)).await;
    }
    let reply = answer("200 OK", &[("etag", "\"1\"")], "");
    stream.write_all(&reply).await.expect("answered");
}

#[tokio::test]
async fn a_slow_download_is_read_to_its_end_and_a_silent_one_is_not() {
    for silent in [false, true] {
        let fake = Fake::handling(move |mut stream| {
            Box::pin(async move {
                read_request(&mut stream).await;
                let reply = answer("200 OK", &[("etag", "\"1\"")], &"x".repeat(300));
                let (head, body) = reply.split_at(reply.len() - 300);
                stream.write_all(head).await.expect("a head");
                for piece in body.chunks(30) {
                    stream.write_all(piece).await.expect("a piece");
                    tokio::time::sleep(IDLE / 4).await;
                    if silent {
                        std::future::pending::<()>().await;
                    }
                }
            })
        })
        .await;
        let mut settings = fake.settings();
        settings.idle_timeout = IDLE;
        let start = Instant::now();
        let stream = open(&settings).get(&key("wal/1.gz")).await;
        let body = stream.expect("an answer").expect("an object").body;
        let chunks: Result<Vec<_>, _> = soon(body.try_collect()).await;
        if silent {
            assert_eq!(cause(chunks), "timeout");
        } else {
            assert_eq!(chunks.expect("all of it").concat().len(), 300);
            assert!(
                start.elapsed() > 2 * IDLE,
                "not slow: {:?}",
                start.elapsed()
            );
        }
    }
}

/// A firewall that drops packets: not even the handshake is answered.
#[tokio::test]
async fn a_blackhole_ends_after_the_connect_timeout() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a port");
    let listener = socket.listen(1).expect("a listener");
    let address = listener.local_addr().expect("an address");
    // Nobody accepts; once the backlog is full, the kernel answers no more.
    let mut full = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    {
        full.push(stream.expect("a connection in the backlog"));
        assert!(full.len() < 100, "the backlog does not fill");
    }
    let mut settings = settings(&format!("http://{address}"), "bucket");
    settings.connect_timeout = IDLE;
    let error = failed(soon(open(&settings).probe()).await);
    assert_eq!(error.cause(), "timeout", "{}", error.report());
    assert!(
        matches!(error, StoreError::Timeout { idle: IDLE, .. }),
        "{error:?}"
    );
}
