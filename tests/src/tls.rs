//! A certificate authority of the test's own, and TLS in front of plain servers.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::users::User;

/// TLS in front of a plain server, with a certificate that can be changed.
#[derive(Clone)]
pub struct Front {
    /// Where clients connect.
    pub address: SocketAddr,
    shown: watch::Sender<TlsAcceptor>,
}

impl Front {
    /// From now on it shows a certificate of this authority; open connections are cut.
    pub fn show(&self, authority: &Authority) {
        self.shown.send_replace(authority.acceptor());
    }
}

/// A CA that nobody trusts unless told to.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    /// Makes one; its certificate is `<folder>/ca.pem`.
    pub fn new(folder: &Path) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name = named("walferry test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a CA");
        let authority = Authority {
            issuer,
            folder: folder.into(),
        };
        std::fs::write(authority.ca(), authority.issuer.pem()).expect("write the CA");
        authority
    }

    /// The file to trust.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Certificate and key for 127.0.0.1 as files that PostgreSQL accepts.
    pub fn for_postgres(&self) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue();
        let paths = (
            self.folder.join("server.pem"),
            self.folder.join("server.key"),
        );
        for (path, pem) in [
            (&paths.0, certificate.pem()),
            (&paths.1, key.serialize_pem()),
        ] {
            std::fs::write(path, pem).expect("write a certificate");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
            User::Postgres.own(path, None);
        }
        paths
    }

    /// From now on somebody listens on the returned address, speaks TLS as
    /// 127.0.0.1, and hands the bytes on to `upstream`.
    pub fn front(&self, upstream: SocketAddr, runtime: &Handle) -> SocketAddr {
        self.changing_front(upstream, runtime).address
    }

    /// The same with a certificate that can be changed.
    pub fn changing_front(&self, upstream: SocketAddr, runtime: &Handle) -> Front {
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .expect("listen");
        let front = Front {
            address: listener.local_addr().expect("bound"),
            shown: watch::Sender::new(self.acceptor()),
        };
        let mut shown = front.shown.subscribe();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = shown.borrow_and_update().clone();
                let mut changed = shown.clone();
                tokio::spawn(async move {
                    let exchange = async {
                        let Ok(mut tls) = acceptor.accept(stream).await else {
                            return;
                        };
                        if let Ok(mut plain) = TcpStream::connect(upstream).await {
                            // A client may leave in the middle.
                            let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
                        }
                    };
                    tokio::select! {
                        () = exchange => {}
                        () = async {
                            if changed.changed().await.is_err() {
                                // Nobody is left who could change it.
                                std::future::pending::<()>().await;
                            }
                        } => {}
                    }
                });
            }
        });
        front
    }

    /// TLS as 127.0.0.1, for a front of one's own.
    pub fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.issue();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocols")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate");
        TlsAcceptor::from(Arc::new(config))
    }

    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        // pgBackRest compares an address with names alone.
        let name = "127.0.0.1".try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::DnsName(name));
        // OpenSSL takes a certificate whose issuer has its own name for self-signed.
        params.distinguished_name = named("127.0.0.1");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate, key)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
