//! Encrypted connections, and whose certificates are accepted.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use walferry_replication::ReplicationError;

use crate::chain;
use crate::server::{Server, admitted, refused};

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, issuer.pem()).expect("a file");
        Self { issuer, file }
    }

    /// Certificate and key in PEM.
    fn issue(&self, names: &[&str], common: &str) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, common);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn a_server_is_trusted_by_authority_and_name() {
    let server = Server::new(&[], "");
    // Without TLS at the server.
    admitted(&server.url("trusted", "sslmode=prefer")).await;
    let error = refused(&server.url("trusted", "sslmode=require")).await;
    assert!(matches!(error, ReplicationError::NoTls { .. }), "{error}");
    // It does not concern the socket, as with libpq.
    let folder = server.folder.path().display();
    let port = server.port;
    admitted(&format!(
        "host={folder} port={port} user=postgres sslmode=verify-full"
    ))
    .await;

    let ours = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(ours.path(), "good");
    let other = Authority::new(ours.path(), "other");
    let (certificate, key) = authority.issue(&["localhost"], "localhost");
    for (name, content) in [
        ("server.crt", certificate),
        ("server.key", key),
        ("client-ca.crt", authority.issuer.pem()),
    ] {
        server.place(&server.data().join(name), &content);
    }
    server.configure("ssl = on\nssl_ca_file = 'client-ca.crt'\n");
    server.stop("fast");
    server.start();

    let url = |host: &str, user: &str, mode: &str, root: Option<&Authority>| {
        let root = root.map_or_else(String::new, |root| {
            format!("&sslrootcert={}", root.file.display())
        });
        format!("postgresql://{user}@{host}:{port}/?sslmode={mode}{root}")
    };
    let good = Some(&authority);
    for (host, mode, root) in [
        ("localhost", "verify-full", good),
        ("127.0.0.1", "verify-ca", good),
        ("127.0.0.1", "require", good),
        ("127.0.0.1", "require", None),
        ("127.0.0.1", "prefer", None),
    ] {
        let connection = admitted(&url(host, "ssl_only", mode, root)).await;
        let encrypted = server.query(
            "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'walferry'",
        );
        assert_eq!(encrypted, "t", "{host} {mode}");
        drop(connection);
        crate::server::eventually("the server has noticed", || server.sender().is_empty()).await;
    }
    for (host, mode, root) in [
        ("127.0.0.1", "verify-full", good),
        ("localhost", "verify-full", Some(&other)),
        ("localhost", "verify-ca", Some(&other)),
        ("localhost", "require", Some(&other)),
        ("localhost", "verify-full", None),
    ] {
        let error = refused(&url(host, "ssl_only", mode, root)).await;
        let text = chain(&error);
        assert!(
            matches!(error, ReplicationError::Tls { .. }),
            "{host} {mode}: {text}"
        );
        assert!(text.contains("sslrootcert"), "{text}");
    }
    let error = refused(&url("127.0.0.1", "ssl_only", "disable", None)).await;
    assert!(
        matches!(error, ReplicationError::Authentication { .. }),
        "{error}"
    );
    // A password in clear text is for whoever cannot be overheard.
    admitted(&url("localhost", "clear:clear", "verify-full", good)).await;
    admitted(&url(
        "localhost",
        "scrammer:open%20s%C3%A9same",
        "verify-full",
        good,
    ))
    .await;

    let (certificate, key) = authority.issue(&[], "certified");
    let paths = (
        ours.path().join("client.pem"),
        ours.path().join("client.key"),
    );
    std::fs::write(&paths.0, certificate).expect("a file");
    std::fs::write(&paths.1, key).expect("a file");
    let certified = url("localhost", "certified", "verify-full", good);
    let client = format!(
        "&sslcert={}&sslkey={}",
        paths.0.display(),
        paths.1.display()
    );
    admitted(&format!("{certified}{client}")).await;
    let error = refused(&certified).await;
    assert!(
        matches!(error, ReplicationError::Authentication { .. }),
        "{error}"
    );

    for (root, why) in [
        ("/nowhere.pem", "No such file"),
        ("/etc/passwd", "no certificate"),
    ] {
        let url = format!(
            "postgresql://ssl_only@localhost:{port}/?sslmode=verify-full&sslrootcert={root}"
        );
        let error = refused(&url).await;
        let text = chain(&error);
        assert!(
            matches!(error, ReplicationError::Certificates { .. }),
            "{text}"
        );
        assert!(text.contains(root) && text.contains(why), "{text}");
    }
}
