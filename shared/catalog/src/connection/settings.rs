//! The catalog's URL and limits.
//!
//! `tokio-postgres` knows `sslmode` up to `require` and no `sslrootcert`; libpq's other
//! values are taken out of the URL here and honoured in `tls`.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use walferry_tls::SslMode;

/// How to reach the catalog.
#[derive(Debug, Clone)]
pub struct CatalogSettings {
    pub url: SecretString,
    /// Certificate authorities besides the system's, as a PEM file.
    pub ca_certificates: Option<PathBuf>,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    pub pool_size: usize,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    pub lock_timeout: Duration,
}

impl CatalogSettings {
    pub fn new(url: SecretString, application_name: impl Into<String>) -> Self {
        Self {
            url,
            ca_certificates: None,
            application_name: application_name.into(),
            pool_size: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(10),
        }
    }

    pub(super) fn parse(&self) -> Result<Target, SettingsError> {
        let mut target = Target::parse(self.url.expose_secret())?;
        target
            .config
            .application_name(&self.application_name)
            .connect_timeout(self.connect_timeout);
        // A network that swallows packets is noticed within half a minute, not after the
        // kernel's quarter of an hour. What the URL says itself is left alone.
        if target.config.get_tcp_user_timeout().is_none() {
            target.config.tcp_user_timeout(Duration::from_secs(30));
        }
        if target.config.get_keepalives_interval().is_none() {
            target
                .config
                .keepalives_idle(Duration::from_secs(15))
                .keepalives_interval(Duration::from_secs(5))
                .keepalives_retries(3);
        }
        Ok(target)
    }
}

/// The URL never appears in these: it holds a password.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("sslmode `{value}` is none of disable, allow, prefer, require, verify-ca, verify-full")]
    SslMode { value: String },
    #[error("the catalog's URL does not parse")]
    Url(#[source] tokio_postgres::Error),
    #[error("the catalog's URL names no host")]
    NoHost,
}

#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) config: tokio_postgres::Config,
    pub(super) ssl_mode: SslMode,
    /// `None`: the system's authorities.
    pub(super) ssl_root_cert: Option<PathBuf>,
}

impl Target {
    fn parse(text: &str) -> Result<Self, SettingsError> {
        let (rest, ssl_mode, ssl_root_cert) = take_ssl(text);
        let mut config: tokio_postgres::Config = rest.parse().map_err(SettingsError::Url)?;
        if config.get_hosts().is_empty() {
            return Err(SettingsError::NoHost);
        }
        let ssl_root_cert = ssl_root_cert.filter(|path| path != "system");
        let has_authority = ssl_root_cert.is_some();
        let ssl_mode = SslMode::parse(ssl_mode.as_deref(), has_authority).ok_or_else(|| {
            SettingsError::SslMode {
                value: ssl_mode.unwrap_or_default(),
            }
        })?;
        config.ssl_mode(match ssl_mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                tokio_postgres::config::SslMode::Require
            }
        });
        Ok(Self {
            config,
            ssl_mode,
            ssl_root_cert: ssl_root_cert.map(PathBuf::from),
        })
    }

    /// Host, port and database, for messages: no user, no password.
    pub(super) fn place(&self) -> String {
        use tokio_postgres::config::Host;
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(index, host)| {
                let port = self.config.get_ports();
                let port = port.get(index).or(port.first()).copied().unwrap_or(5432);
                match host {
                    Host::Tcp(name) => format!("{name}:{port}"),
                    Host::Unix(path) => format!("{}:{port}", path.display()),
                }
            })
            .collect();
        let database = self
            .config
            .get_dbname()
            .or(self.config.get_user())
            .unwrap_or("");
        format!("{}/{database}", hosts.join(","))
    }
}

/// Takes `sslmode` and `sslrootcert` out of a URL or of a `key=value` string.
fn take_ssl(text: &str) -> (String, Option<String>, Option<String>) {
    let (mut mode, mut root) = (None, None);
    let mut kept = Vec::new();
    let mut take = |pair: &'_ str, url: bool| {
        let value = |raw: &str| {
            if url {
                percent_decode(raw)
            } else {
                raw.trim_matches('\'').to_owned()
            }
        };
        match pair.split_once('=') {
            Some(("sslmode", raw)) => mode = Some(value(raw)),
            Some(("sslrootcert", raw)) => root = Some(value(raw)),
            _ => return false,
        }
        true
    };
    let rest = if let Some((scheme, after)) = text.split_once("://") {
        // The old system's URL may name a Python driver: postgresql+psycopg2://
        let scheme = scheme.split('+').next().unwrap_or(scheme);
        let (base, query) = after.split_once('?').unwrap_or((after, ""));
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if !take(pair, true) {
                kept.push(pair);
            }
        }
        let query = kept.join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{scheme}://{base}{mark}{query}")
    } else {
        for pair in text.split_ascii_whitespace() {
            if !take(pair, false) {
                kept.push(pair);
            }
        }
        kept.join(" ")
    };
    (rest, mode, root)
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, mode: SslMode, root: Option<&str>, place: &str) {
        let target = Target::parse(url).expect(url);
        assert_eq!(target.ssl_mode, mode, "{url}");
        assert_eq!(target.ssl_root_cert, root.map(PathBuf::from), "{url}");
        assert_eq!(target.place(), place, "{url}");
    }

    #[test]
    fn the_ssl_settings_of_libpq_are_understood() {
        let place = "db:5433/catalog";
        let base = "postgresql://u:p@db:5433/catalog";
        check(base, SslMode::Prefer, None, place);
        for (value, mode) in [
            ("disable", SslMode::Disable),
            ("prefer", SslMode::Prefer),
            ("require", SslMode::Require),
            ("verify-ca", SslMode::VerifyCa),
            ("verify-full", SslMode::VerifyFull),
        ] {
            check(&format!("{base}?sslmode={value}"), mode, None, place);
            check(
                &format!("host=db port=5433 dbname=catalog sslmode={value}"),
                mode,
                None,
                place,
            );
        }
        check(
            &format!("{base}?sslrootcert=%2Fetc%2Fa%20b.pem&sslmode=require&keepalives=1"),
            SslMode::VerifyCa,
            Some("/etc/a b.pem"),
            place,
        );
        check(
            &format!("{base}?sslrootcert=system&sslmode=verify-full"),
            SslMode::VerifyFull,
            None,
            place,
        );
    }

    #[test]
    fn a_url_of_the_old_system_is_understood() {
        check(
            "postgresql+psycopg2://u:p@db/catalog",
            SslMode::Prefer,
            None,
            "db:5432/catalog",
        );
    }

    #[test]
    fn a_refused_url_never_shows_its_password() {
        for url in [
            "postgresql://u:hunter2@db/catalog?sslmode=maybe",
            "postgresql://u:hunter2@db:port/catalog",
            "postgresql://u:hunter2@db/catalog?unheard_of=1",
            "dbname=catalog password=hunter2",
        ] {
            let mut error: &dyn std::error::Error = &Target::parse(url).expect_err(url);
            loop {
                let text = format!("{error} {error:?}");
                assert!(!text.contains("hunter2"), "{text}");
                let Some(source) = error.source() else { break };
                error = source;
            }
        }
    }
}
