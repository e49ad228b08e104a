use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::mode::SslMode;
use crate::verifier::{AnyServer, KnownAuthority};

/// Whose certificates are accepted, as files of PEM.
#[derive(Clone, Copy, Debug, Default)]
pub struct Authorities<'a> {
    /// `sslrootcert`; the system's without it.
    pub root: Option<&'a Path>,
    /// Besides those.
    pub extra: Option<&'a Path>,
}

/// `sslcert` and `sslkey`, files of PEM.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate<'a> {
    pub certificate: &'a Path,
    pub key: &'a Path,
}

/// A file of certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the certificates in {}", path.display())]
pub struct CertificatesError {
    pub path: PathBuf,
    pub source: Box<dyn StdError + Send + Sync>,
}

/// TLS as `mode` asks for it. Reads files.
///
/// # Errors
/// When a file is missing, holds no certificate or one that cannot be used.
///
/// # Panics
/// Never: the provider supports the protocol versions that it was built with.
pub fn client_config(
    mode: SslMode,
    authorities: Authorities<'_>,
    client: Option<ClientCertificate<'_>>,
) -> Result<ClientConfig, CertificatesError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match mode {
        SslMode::Disable | SslMode::Prefer | SslMode::Require => {
            Arc::new(AnyServer(Arc::clone(&provider)))
        }
        SslMode::VerifyCa => Arc::new(KnownAuthority(web_pki(authorities, &provider)?)),
        SslMode::VerifyFull => web_pki(authorities, &provider)?,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the protocol versions it was built with")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(ClientCertificate { certificate, key }) = client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
    builder
        .with_client_auth_cert(chain, key_der)
        .map_err(|error| unusable(certificate, error))
}

fn web_pki(
    authorities: Authorities<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, CertificatesError> {
    let mut roots = RootCertStore::empty();
    // SSL_CERT_FILE and SSL_CERT_DIR are honoured in here. Single certificates that do not load
    // are skipped: a missing authority shows when the server is verified.
    if authorities.root.is_none() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    for path in authorities.root.into_iter().chain(authorities.extra) {
        for certificate in certificates(path)? {
            let added = roots.add(certificate);
            added.map_err(|error| unusable(path, error))?;
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| {
            let system = Path::new("the system's certificates");
            unusable(authorities.root.unwrap_or(system), error)
        })
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificatesError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(path, error))?;
    if found.is_empty() {
        return Err(unusable(path, "the file holds no certificate"));
    }
    Ok(found)
}

fn unusable(path: &Path, source: impl Into<Box<dyn StdError + Send + Sync>>) -> CertificatesError {
    CertificatesError {
        path: path.to_owned(),
        source: source.into(),
    }
}
