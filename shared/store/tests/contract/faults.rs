//! Connections that fail, break, or carry something else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;
use walferry_proof::md5;
use walferry_store::{Metadata, Repository, Retry};

use crate::fake::{Fake, Reply, answer, read_request};
use crate::servers::{open, settings};
use crate::{cause, failed, key, prefix, put, random};

/// The causes of every operation's failure.
pub(crate) async fn all_causes(r2: &dyn Repository) -> Vec<&'static str> {
    let (key, metadata, body) = (key("wal/1.gz"), Metadata::new(), random(5 * 1024 * 1024));
    let sum = md5(&body);
    let parts = futures::stream::iter([Ok(body.clone())]).boxed();
    vec![
        cause(r2.probe().await),
        cause(r2.clock().await),
        cause(r2.head(&key).await),
        cause(r2.get(&key).await),
        cause(r2.list(&prefix("wal/"), None, 10).await),
        cause(r2.put(&key, body.clone(), &metadata, &sum).await),
        cause(r2.put_new(&key, body, &metadata, &sum).await),
        cause(r2.put_parts(&key, parts, &metadata).await),
        cause(r2.delete(&key).await),
    ]
}

#[tokio::test]
async fn a_refused_connection_is_told_with_its_reason() {
    // Bound and dropped: nobody listens there now.
    let address = Fake::handling(|_| Box::pin(async {})).await.address;
    tokio::task::yield_now().await;
    let r2 = open(&settings(&format!("http://{address}"), "bucket"));
    let error = failed(r2.probe().await);
    assert_eq!((error.cause(), error.retry()), ("refused", Retry::Later));
    assert!(
        error.report().contains("Connection refused"),
        "{}",
        error.report()
    );
    let causes = all_causes(&*r2).await;
    assert!(causes.iter().all(|cause| *cause == "refused"), "{causes:?}");
}

#[tokio::test]
async fn a_host_that_does_not_exist_is_refused() {
    let r2 = open(&settings("https://nobody.invalid", "bucket"));
    assert_eq!(cause(r2.probe().await), "refused");
}

#[tokio::test]
async fn a_body_that_ends_early_never_looks_complete() {
    let fake = Fake::answering(|_| {
        let mut reply = answer("200 OK", &[("etag", "\"1\"")], &"x".repeat(1000));
        reply.truncate(reply.len() - 400);
        Reply::Last(reply)
    })
    .await;
    let stream = fake.repository().get(&key("wal/1.gz")).await;
    let stream = stream.expect("an answer").expect("an object");
    assert_eq!(stream.facts.size, 1000);
    let mut body = stream.body;
    let mut got = 0;
    let error = loop {
        match body.try_next().await {
            Ok(Some(chunk)) => got += chunk.len(),
            Ok(None) => panic!("ended quietly after {got} bytes"),
            Err(error) => break failed::<()>(Err(error)),
        }
    };
    assert_eq!(got, 600);
    assert_eq!((error.cause(), error.retry()), ("interrupted", Retry::Soon));
    let listing = fake.repository().list(&prefix("wal/"), None, 10).await;
    assert_eq!(cause(listing), "interrupted");
}

#[tokio::test]
async fn a_head_cut_short_is_no_fact() {
    for reply in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n",
    ] {
        let fake = Fake::answering(move |_| Reply::Last(reply.into())).await;
        let error = failed(fake.repository().head(&key("wal/1.gz")).await);
        assert_eq!(error.cause(), "interrupted", "{}", error.report());
    }
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_no_fact_is_a_protocol_error() {
    for reply in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\netag: \"1\"\r\n\r\n",
    ] {
        let fake = Fake::answering(move |_| Reply::Last(reply.into())).await;
        let error = failed(fake.repository().head(&key("wal/1.gz")).await);
        assert_eq!(error.cause(), "protocol", "{}", error.report());
    }
}

/// Servers close idle connections at any time; that alone must not cost an attempt.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let fake = Fake::handling(move |mut stream| {
        let count = Arc::clone(&count);
        Box::pin(async move {
            // One answer, then the next request finds the connection closed.
            if read_request(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                let reply = answer("200 OK", &[("etag", "\"1\"")], "");
                stream.write_all(&reply).await.expect("answered");
                read_request(&mut stream).await;
            }
        })
    })
    .await;
    let r2 = fake.repository();
    for _ in 0..3 {
        let body = Bytes::from_static(b"abc");
        put(&*r2, &key("wal/1.gz"), &body).await.expect("stored");
    }
    assert_eq!(served.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_request_that_breaks_again_and_again_is_made_twice_and_no_more() {
    let fake = Fake::answering(|_| Reply::Last(Vec::new())).await;
    let r2 = fake.repository();
    assert_eq!(
        cause(put(&*r2, &key("a"), &Bytes::new()).await),
        "interrupted"
    );
    assert_eq!((fake.requests().len(), fake.connections()), (2, 2));
}
