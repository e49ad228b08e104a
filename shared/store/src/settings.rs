//! How a repository is reached. The values are valid on their own; `s3` checks them together.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;
use walferry_proof::RepositoryName;

/// An S3 bucket and the way to it. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct S3Settings {
    pub name: RepositoryName,
    /// Scheme, host and port only; the bucket is no part of it.
    pub endpoint: Url,
    pub bucket: String,
    /// `auto` for R2.
    pub region: String,
    pub access_key_id: SecretString,
    pub secret_access_key: SecretString,
    /// Plain HTTP is refused without this, except on loopback.
    pub allow_http: bool,
    /// Whether the store honours `If-None-Match: *` (R2 does, B2 answers 501).
    pub conditional_put: bool,
    /// `https://host/bucket/key` and not `https://bucket.host/key`; IP addresses and
    /// `localhost` are always addressed this way.
    pub path_style: bool,
    /// A request in which not a byte moves for this long has failed. There is no limit on
    /// its total time.
    pub idle_timeout: Duration,
    /// Limit on name resolution, TCP and TLS handshake together.
    pub connect_timeout: Duration,
    /// PEM file with CAs to trust besides the system's (`SSL_CERT_FILE` replaces those).
    pub ca_certificates: Option<PathBuf>,
}

impl S3Settings {
    /// Default of `idle_timeout`.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
    /// Default of `connect_timeout`.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
}
