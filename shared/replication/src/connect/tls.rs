use rustls::ClientConfig;
use walferry_tls::{Authorities, CertificatesError, ClientCertificate, client_config};

use crate::error::ReplicationError;
use crate::settings::ServerSettings;

/// TLS as `settings` ask for it. Reads files.
pub(super) fn config(settings: &ServerSettings) -> Result<ClientConfig, ReplicationError> {
    let authorities = Authorities {
        root: settings.ssl_root_cert.as_deref(),
        extra: None,
    };
    let client = settings.ssl_client.as_ref();
    let client = client.map(|(certificate, key)| ClientCertificate { certificate, key });
    client_config(settings.ssl_mode, authorities, client).map_err(
        |CertificatesError { path, source }| ReplicationError::Certificates { path, source },
    )
}
