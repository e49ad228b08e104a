//! What every repository has to hold, shown on two S3 servers that differ in much, and
//! what becomes of faults that neither of them shows on demand.

mod breaker;
mod fake;
mod faults;
mod metered;
mod scripted;
mod servers;
mod settings;
mod silence;
mod suite;
mod tls;
mod versioned;
mod words;

use bytes::Bytes;
use futures::StreamExt;
use walferry_proof::{KeyPrefix, ObjectKey, md5};
use walferry_store::{Metadata, Repository, StoreError};

/// Part of the secret of every repository here: it must not show up anywhere.
const SECRET: &str = "walferry-s3cr3t";

/// The error of a request that must have failed, after a look at what it gives away.
#[track_caller]
fn failed<T: std::fmt::Debug>(result: Result<T, StoreError>) -> StoreError {
    let error = result.expect_err("the request succeeded");
    for text in [format!("{error:?}"), error.to_string(), error.report()] {
        assert!(!text.contains(SECRET), "gives the secret away: {text}");
        assert!(
            !text.contains("Signature="),
            "gives a signature away: {text}"
        );
    }
    error
}

/// As `failed`, and the cause.
#[track_caller]
fn cause<T: std::fmt::Debug>(result: Result<T, StoreError>) -> &'static str {
    failed(result).cause()
}

fn key(text: &str) -> ObjectKey {
    text.parse().expect("a key")
}

fn prefix(text: &str) -> KeyPrefix {
    text.parse().expect("a prefix")
}

/// A PUT as the pipeline makes it.
async fn put(r2: &dyn Repository, key: &ObjectKey, body: &Bytes) -> Result<(), StoreError> {
    r2.put(key, body.clone(), &Metadata::new(), &md5(body))
        .await
}

/// A multipart upload of these pieces.
async fn put_parts(
    r2: &dyn Repository,
    key: &ObjectKey,
    pieces: Vec<Result<Bytes, StoreError>>,
) -> Result<String, StoreError> {
    let pieces = futures::stream::iter(pieces).boxed();
    r2.put_parts(key, pieces, &Metadata::new()).await
}

/// Bytes that no two callers share.
fn random(size: usize) -> Bytes {
    let mut bytes = vec![0; size];
    fastrand::Rng::new().fill(&mut bytes);
    bytes.into()
}
