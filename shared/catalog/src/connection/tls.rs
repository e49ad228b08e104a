use std::path::Path;

use tokio_postgres_rustls::MakeRustlsConnect;
use walferry_tls::{Authorities, CertificatesError, client_config};

use super::settings::Target;
use crate::error::CatalogError;

/// TLS as `target` and `extra` (an authority of the operator's own) ask for it.
pub(super) fn connector(
    target: &Target,
    extra: Option<&Path>,
) -> Result<MakeRustlsConnect, CatalogError> {
    let authorities = Authorities {
        root: target.ssl_root_cert.as_deref(),
        extra,
    };
    client_config(target.ssl_mode, authorities, None)
        .map(MakeRustlsConnect::new)
        .map_err(|CertificatesError { path, source }| CatalogError::CaCertificates { path, source })
}
