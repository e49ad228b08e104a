//! The catalog's database.
//!
//! Reads: `DATABASE_URL` or `WALFERRY_CATALOG_URL` (each also with `_FILE`),
//! `WALFERRY_CATALOG_ALLOW_SAME_SERVER`, `…_CONNECTIONS`, `…_CONNECT_TIMEOUT`,
//! `…_STATEMENT_TIMEOUT`.

use std::time::Duration;

use secrecy::SecretString;

use crate::problem::Refusal;
use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value;

static URL: Setting = Setting::new(
    "catalog.url",
    "the catalog as a postgres:// URL, with sslmode and sslrootcert if need be",
)
.secret_url()
.old(&[("", "DATABASE_URL")]);
static ALLOW_SAME_SERVER: Setting = Setting::new(
    "catalog.allow_same_server",
    "accept a catalog on the very server that it protects",
)
.default("false");
static CONNECTIONS: Setting =
    Setting::new("catalog.connections", "connections at most, per process").default("8");
static CONNECT_TIMEOUT: Setting =
    Setting::new("catalog.connect_timeout", "how long connecting may take").default("5s");
static STATEMENT_TIMEOUT: Setting = Setting::new(
    "catalog.statement_timeout",
    "how long one statement may take",
)
.default("30s");

pub(crate) const SETTINGS: &[&Setting] = &[
    &URL,
    &ALLOW_SAME_SERVER,
    &CONNECTIONS,
    &CONNECT_TIMEOUT,
    &STATEMENT_TIMEOUT,
];

#[derive(Clone, Debug)]
pub struct CatalogSettings {
    pub url: SecretString,
    pub allow_same_server: bool,
    pub connections: u32,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
}

impl Section for CatalogSettings {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let url = reader.needed_secret(&URL, postgres_url);
        let allow_same_server = reader.value(&ALLOW_SAME_SERVER, value::boolean);
        let connections = reader.value(&CONNECTIONS, value::between(2, 1000));
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let connect_timeout = reader.value(&CONNECT_TIMEOUT, value::duration(second, hour));
        let statement_timeout = reader.value(&STATEMENT_TIMEOUT, value::duration(second, hour));
        Some(Self {
            url: url?,
            allow_same_server: allow_same_server?,
            connections: connections?,
            connect_timeout: connect_timeout?,
            statement_timeout: statement_timeout?,
        })
    }
}

pub(super) fn postgres_url(text: &str) -> Result<(), Refusal> {
    value::secret_url(
        &["postgres", "postgresql"],
        "postgres://USER:PASSWORD@HOST/DATABASE",
    )(text)
}
