//! Settings that cannot work are refused before anything is sent.

use std::time::Duration;

use walferry_store::{Retry, S3Settings, s3};

use crate::servers::settings;
use crate::{SECRET, cause, failed, key};

fn check(change: impl FnOnce(&mut S3Settings), expected: &str) {
    let mut settings = settings("https://r2.example", "bucket");
    change(&mut settings);
    let error = failed(s3(&settings).map(|_| ()));
    assert_eq!(
        (error.cause(), error.retry()),
        ("configuration", Retry::Operator)
    );
    assert!(error.report().contains(expected), "{}", error.report());
}

fn check_endpoint(endpoint: &str, expected: &str) {
    check(|s| s.endpoint = endpoint.parse().expect("a URL"), expected);
}

#[test]
fn plain_http_needs_a_setting_except_on_loopback() {
    check_endpoint("http://r2.example", "is plain HTTP. HINT: use https");
    check_endpoint("http://10.0.0.1:9000", "is plain HTTP");
    for (endpoint, allow_http) in [
        ("http://r2.example", true),
        ("http://127.0.0.1:9000", false),
        ("http://[::1]:9000", false),
        ("http://localhost:9000", false),
        ("https://r2.example", false),
    ] {
        let mut settings = settings(endpoint, "bucket");
        settings.allow_http = allow_http;
        s3(&settings).expect(endpoint);
    }
}

#[test]
fn an_endpoint_is_a_server_and_nothing_else() {
    check_endpoint("ftp://r2.example", "scheme `ftp`");
    check_endpoint("https://r2.example/bucket", "has a path. HINT: the bucket");
    check_endpoint("https://r2.example/?a=b", "has a path");
    check_endpoint(
        &format!("https://key:{SECRET}@r2.example"),
        "holds credentials",
    );
}

#[test]
fn values_that_would_break_every_request_are_refused() {
    check(|s| s.bucket = String::new(), "is not a bucket name");
    check(|s| s.bucket = "a/b".to_owned(), "is not a bucket name");
    check(|s| s.region = String::new(), "the region is empty");
    check(|s| s.access_key_id = "".into(), "the key id is empty");
    check(
        |s| s.secret_access_key = format!("{SECRET}\n").into(),
        "the secret is empty or has",
    );
    check(|s| s.idle_timeout = Duration::ZERO, "a timeout of 0");
    check(|s| s.connect_timeout = Duration::ZERO, "a timeout of 0");
}

#[test]
fn a_ca_file_that_holds_no_ca_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ca.pem");
    check(
        |s| s.ca_certificates = Some(path.clone()),
        "cannot read CA file",
    );
    std::fs::write(&path, "hello").expect("a file");
    check(
        |s| s.ca_certificates = Some(path.clone()),
        "holds no certificate",
    );
    std::fs::write(
        &path,
        "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n",
    )
    .expect("a file");
    check(|s| s.ca_certificates = Some(path), "CA file");
}

#[test]
fn settings_show_no_secret() {
    let shown = format!("{:?}", settings("https://r2.example", "bucket"));
    assert!(shown.contains("r2.example"), "{shown}");
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(!shown.contains("walferry-key"), "{shown}");
}

#[tokio::test]
async fn a_key_that_would_become_another_one_is_refused() {
    let r2 = s3(&settings("http://127.0.0.1:1", "bucket")).expect("good settings");
    for text in ["wal/", "wal//1.gz", "wal/./1.gz", "./wal"] {
        assert_eq!(cause(r2.head(&key(text)).await), "configuration", "{text}");
        assert_eq!(
            cause(r2.delete(&key(text)).await),
            "configuration",
            "{text}"
        );
    }
}
