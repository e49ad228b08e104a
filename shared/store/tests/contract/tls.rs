//! Certificates: whose are trusted, and what an operator reads when one is not.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use walferry_proof::{md5, sha256};
use walferry_store::{Metadata, Retry, S3Settings};

use crate::fake::{Fake, Reply, Request, answer};
use crate::servers::{World, embedded, open};
use crate::{failed, key, put, random};

/// Set in the process that is to trust what `SSL_CERT_FILE` names.
const CHILD: &str = "WALFERRY_STORE_TLS_TEST_ENDPOINT";

/// A server behind TLS, with a CA of its own.
struct Front {
    _folder: tempfile::TempDir,
    _fake: Fake,
    ca: PathBuf,
    settings: S3Settings,
}

/// The embedded server behind it, which lives as long as what comes first.
async fn front(names: &[&str]) -> (World, Front) {
    let world = embedded().await;
    let behind = world.embedded.as_ref().expect("embedded").address();
    let front = front_of(names, world.settings.clone(), behind).await;
    (world, front)
}

async fn front_of(names: &[&str], mut settings: S3Settings, behind: SocketAddr) -> Front {
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("a CA");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf_key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(names)
        .expect("parameters")
        .signed_by(&leaf_key, &ca)
        .expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, ca.pem()).expect("a file");

    let key = PrivateKeyDer::from_pem_slice(leaf_key.serialize_pem().as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let fake = Fake::handling(move |stream| {
        let acceptor = acceptor.clone();
        Box::pin(async move {
            let Ok(mut tls) = acceptor.accept(stream).await else {
                return;
            };
            let mut plain = TcpStream::connect(behind).await.expect("the server");
            // A client may leave in the middle.
            let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
        })
    })
    .await;
    settings.endpoint = format!("https://{}", fake.address).parse().expect("a URL");
    Front {
        _folder: folder,
        _fake: fake,
        ca: ca_file,
        settings,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_of_ones_own_is_trusted_when_it_is_named() {
    let (_world, mut front) = front(&["127.0.0.1"]).await;
    let error = failed(open(&front.settings).probe().await);
    assert_eq!((error.cause(), error.retry()), ("tls", Retry::Operator));
    assert!(
        error.report().contains("UnknownIssuer"),
        "{}",
        error.report()
    );
    assert!(error.report().contains("HINT: name the file with your CA"));
    front.settings.ca_certificates = Some(front.ca.clone());
    open(&front.settings).probe().await.expect("trusted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_host_is_refused() {
    let (_world, mut front) = front(&["r2.example"]).await;
    front.settings.ca_certificates = Some(front.ca.clone());
    let error = failed(open(&front.settings).probe().await);
    assert_eq!(error.cause(), "tls", "{}", error.report());
    assert!(
        error.report().contains("not valid for name"),
        "{}",
        error.report()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_a_bodys_sum_is_content_md5_and_in_the_clear_the_signature_covers_it_too() {
    let ok = |_: &Request| Reply::Answer(answer("200 OK", &[("etag", "\"1\"")], ""));
    let fake = Fake::answering(ok).await;
    let mut front = front_of(&["127.0.0.1"], fake.settings(), fake.address).await;
    front.settings.ca_certificates = Some(front.ca.clone());
    let (key, body) = (key("a"), random(100));
    put(&*open(&front.settings), &key, &body)
        .await
        .expect("stored");
    put(&*fake.repository(), &key, &body).await.expect("stored");
    let requests = fake.requests();
    let sums: Vec<_> = requests
        .iter()
        .map(|request| {
            request
                .header("x-amz-content-sha256")
                .expect("it is signed")
        })
        .collect();
    assert_eq!(sums, ["UNSIGNED-PAYLOAD", &sha256(&body).to_string()]);
    for request in &requests {
        assert!(request.header("content-md5").is_some(), "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_damaged_on_the_way_is_refused_over_tls_too() {
    let (_world, mut front) = front(&["127.0.0.1"]).await;
    front.settings.ca_certificates = Some(front.ca.clone());
    let r2 = open(&front.settings);
    let (key, none, meant) = (key("damaged"), Metadata::new(), md5(b"what was meant"));
    let sent = r2.put(&key, random(100), &none, &meant);
    assert_eq!(failed(sent.await).cause(), "damaged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_where_tls_is_spoken_is_an_error_and_the_other_way_round() {
    let world = embedded().await;
    let mut settings = world.settings.clone();
    let address = world.embedded.as_ref().expect("embedded").address();
    settings.endpoint = format!("https://{address}").parse().expect("a URL");
    assert_eq!(failed(open(&settings).probe().await).cause(), "tls");
    let (_behind, front) = front(&["127.0.0.1"]).await;
    let mut settings = front.settings.clone();
    let plain = settings.endpoint.as_str().replace("https", "http");
    settings.endpoint = plain.parse().expect("a URL");
    let cause = failed(open(&settings).probe().await).cause();
    assert!(matches!(cause, "protocol" | "interrupted"), "{cause}");
}

/// The variable is read when a process sets up TLS, so the test starts itself again with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssl_cert_file_is_honoured() {
    #[expect(clippy::disallowed_methods, reason = "a test that starts itself again")]
    let parent = std::env::var(CHILD);
    if let Ok(endpoint) = parent {
        let mut settings = crate::servers::settings(&endpoint, "walferry");
        settings.endpoint = endpoint.parse().expect("a URL");
        open(&settings).probe().await.expect("trusted");
        return;
    }
    let (_world, front) = front(&["127.0.0.1"]).await;
    let (endpoint, ca) = (front.settings.endpoint.to_string(), front.ca.clone());
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    for (file, trusted) in [(ca, true), (other, false)] {
        let endpoint = endpoint.clone();
        let again = move || {
            Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "tls::ssl_cert_file_is_honoured", "--nocapture"])
                .env(CHILD, endpoint)
                .env("SSL_CERT_FILE", file)
                .output()
                .expect("it runs")
        };
        let output = tokio::task::spawn_blocking(again).await.expect("it ran");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("running 1 test"), "{text}");
        assert_eq!(output.status.success(), trusted, "{text}");
    }
}
