//! libpq's `sslmode` for connections to a PostgreSQL server: whether there is TLS, and which
//! certificates of the server are accepted.
//!
//! <https://www.postgresql.org/docs/15/libpq-ssl.html>

mod client;
mod mode;
mod verifier;

pub use client::{Authorities, CertificatesError, ClientCertificate, client_config};
pub use mode::SslMode;
