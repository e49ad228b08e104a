use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use walferry_tls::SslMode;

use super::account::account;
use super::address::{Address, addresses};
use super::error::SettingsError;
use super::parameters::Parameters;
use super::passfile::{PassFile, Wanted};

const APPLICATION: &str = "walferry";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const STALL: Duration = Duration::from_secs(300);

/// How to reach a server.
///
/// As with libpq, several hosts are tried in turn, `sslmode` does not concern Unix-domain
/// sockets, and `sslrootcert` turns `require` into `verify-ca`. Other than libpq,
/// `verify-ca` and `verify-full` without `sslrootcert` trust the system's authorities.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    pub(crate) addresses: Vec<Address>,
    pub(crate) user: String,
    pub(crate) application_name: String,
    pub(crate) options: Option<String>,
    pub(crate) ssl_mode: SslMode,
    /// `None`: the system's authorities.
    pub(crate) ssl_root_cert: Option<PathBuf>,
    /// Certificate chain and key to show to the server.
    pub(crate) ssl_client: Option<(PathBuf, PathBuf)>,
    pub(crate) connect_timeout: Duration,
    pub(crate) stall: Duration,
    /// Why the password file was not used.
    pub(crate) passfile_note: Option<String>,
}

impl ServerSettings {
    /// A `postgresql://` URL, or libpq's `keyword=value` pairs. A password that is not in it
    /// is looked for in `passfile`, else in `~/.pgpass`, which is read here.
    ///
    /// # Errors
    /// When it does not parse or asks for something that we do not do.
    pub fn from_url(url: &SecretString) -> Result<Self, SettingsError> {
        Self::from_url_and_environment(url, &BTreeMap::new())
    }

    /// As `from_url`; what the URL does not say, libpq's variables do.
    ///
    /// # Errors
    /// When either does not parse or asks for something that we do not do.
    pub fn from_url_and_environment(
        url: &SecretString,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, SettingsError> {
        let parameters = Parameters::parse(url.expose_secret())?;
        Self::resolve(
            &parameters.or(Parameters::of_environment(environment)),
            environment,
        )
    }

    /// libpq's variables: PGHOST, PGHOSTADDR, PGPORT, PGUSER, PGPASSWORD, PGPASSFILE (else
    /// `~/.pgpass`, by HOME), PGDATABASE, PGSSLMODE, PGSSLROOTCERT, PGSSLCERT, PGSSLKEY and
    /// PGCONNECT_TIMEOUT. The password file is read here.
    ///
    /// # Errors
    /// When one has a value that we cannot use.
    pub fn from_environment(environment: &BTreeMap<String, String>) -> Result<Self, SettingsError> {
        Self::resolve(&Parameters::of_environment(environment), environment)
    }

    /// How long the server may send nothing where something is due; 5 minutes unless set.
    /// The checkpoint at the beginning of a base backup has its own time besides.
    #[must_use]
    pub fn with_stall(mut self, stall: Duration) -> Self {
        self.stall = stall;
        self
    }

    /// User, hosts and ports, for messages: no secret.
    #[must_use]
    pub fn shown(&self) -> String {
        let places: Vec<_> = self.addresses.iter().map(Address::shown).collect();
        format!("{}@{}", self.user, places.join(","))
    }

    fn resolve(
        parameters: &Parameters,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, SettingsError> {
        refuse_what_we_cannot(parameters)?;
        let get = |keyword| parameters.get(keyword).map(str::to_owned);
        let own = account();
        let user = get("user")
            .or_else(|| own.as_ref().map(|(name, _)| name.clone()))
            .ok_or(SettingsError::NoUser)?;
        let ssl_root_cert = get("sslrootcert").filter(|path| path != "system");
        let ssl_mode = ssl_mode(parameters.get("sslmode"), ssl_root_cert.is_some())?;
        let ssl_client = match (get("sslcert"), get("sslkey")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => {
                return Err(SettingsError::Unsupported {
                    option: "sslcert",
                    why: "sslcert and sslkey are given both or not at all",
                });
            }
        };
        let mut settings = Self {
            addresses: addresses(parameters)?,
            user,
            application_name: get("application_name").unwrap_or_else(|| APPLICATION.to_owned()),
            options: get("options"),
            ssl_mode,
            ssl_root_cert: ssl_root_cert.map(PathBuf::from),
            ssl_client,
            connect_timeout: connect_timeout(parameters)?,
            stall: STALL,
            passfile_note: None,
        };
        let home = environment
            .get("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
            .or_else(|| own.map(|(_, home)| home));
        settings.passwords(parameters, home.as_deref())?;
        Ok(settings)
    }

    fn passwords(
        &mut self,
        parameters: &Parameters,
        home: Option<&Path>,
    ) -> Result<(), SettingsError> {
        if let Some(password) = parameters.get("password") {
            for address in &mut self.addresses {
                address.password = Some(password.into());
            }
            return Ok(());
        }
        let path = match (parameters.get("passfile"), home) {
            (Some(path), _) => PathBuf::from(path),
            (None, Some(home)) => home.join(".pgpass"),
            (None, None) => return Ok(()),
        };
        let file = PassFile::read(&path);
        // pg_basebackup's lines say `replication`; a URL's database fits too.
        let databases: Vec<_> = ["replication"]
            .into_iter()
            .chain(parameters.get("dbname"))
            .collect();
        for address in &mut self.addresses {
            let found = file.find(Wanted {
                host: &address.in_passfile(),
                port: address.port,
                databases: &databases,
                user: &self.user,
            });
            let Some(password) = found.filter(|password| !password.is_empty()) else {
                continue;
            };
            let password =
                String::from_utf8(password).map_err(|_| SettingsError::PasswordEncoding {
                    user: self.user.clone(),
                })?;
            address.password = Some(password.into());
        }
        self.passfile_note = file.note;
        Ok(())
    }
}

fn refuse_what_we_cannot(parameters: &Parameters) -> Result<(), SettingsError> {
    let harmless: [(&'static str, &[&str], &'static str); 5] = [
        ("service", &[], "write host, port and user out"),
        (
            "channel_binding",
            &["prefer", "disable"],
            "it binds no channels; sslmode=verify-full shows who the server is",
        ),
        (
            "sslnegotiation",
            &["postgres"],
            "it asks the server for TLS in the old way, which every version knows",
        ),
        (
            "require_auth",
            &[],
            "it accepts what pg_hba.conf asks for, and a password in clear text with TLS only",
        ),
        (
            "target_session_attrs",
            &["any"],
            "it takes a base from whichever host answers first; name one",
        ),
    ];
    for (option, accepted, why) in harmless {
        if parameters
            .get(option)
            .is_some_and(|value| !accepted.contains(&value))
        {
            return Err(SettingsError::Unsupported { option, why });
        }
    }
    Ok(())
}

fn ssl_mode(value: Option<&str>, has_authority: bool) -> Result<SslMode, SettingsError> {
    SslMode::parse(value, has_authority).ok_or(SettingsError::Value {
        option: "sslmode",
        expected: "none of disable, allow, prefer, require, verify-ca, verify-full",
    })
}

/// libpq waits for ever without it and with 0; we do not.
fn connect_timeout(parameters: &Parameters) -> Result<Duration, SettingsError> {
    let Some(text) = parameters.get("connect_timeout") else {
        return Ok(CONNECT_TIMEOUT);
    };
    let seconds: i32 = text.trim().parse().map_err(|_| SettingsError::Value {
        option: "connect_timeout",
        expected: "no number of seconds",
    })?;
    Ok(match u64::try_from(seconds) {
        Ok(0) | Err(_) => CONNECT_TIMEOUT,
        Ok(seconds) => Duration::from_secs(seconds),
    })
}

#[cfg(test)]
mod tests;
