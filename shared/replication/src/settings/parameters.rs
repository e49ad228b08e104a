//! Connection parameters by libpq's keywords, wherever they come from.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::error::SettingsError;

/// What we honour.
const KNOWN: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "passfile",
    "password",
    "port",
    "require_auth",
    "service",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "user",
];

/// What makes no difference to a base backup, or is done as it asks anyway.
const WITHOUT_EFFECT: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "replication",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
];

const VARIABLES: &[(&str, &str)] = &[
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGDATABASE", "dbname"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPASSFILE", "passfile"),
    ("PGPASSWORD", "password"),
    ("PGPORT", "port"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGSERVICE", "service"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGUSER", "user"),
];

/// Values by keyword. Holds a password: has no `Debug`.
#[derive(Default)]
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// A URL, or `keyword=value` pairs.
    pub(super) fn parse(text: &str) -> Result<Self, SettingsError> {
        let mut parameters = Self::default();
        match text.split_once("://") {
            Some((scheme, rest))
                if scheme
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'+') =>
            {
                // Some programs' URLs name a driver: postgresql+psycopg2://
                match scheme.split('+').next() {
                    Some("postgres" | "postgresql") => parameters.url(rest)?,
                    _ => {
                        return Err(SettingsError::Url {
                            what: "it does not begin with postgresql://",
                        });
                    }
                }
            }
            _ => parameters.pairs(text)?,
        }
        Ok(parameters)
    }

    /// libpq's variables, those that are set to something.
    pub(super) fn of_environment(environment: &BTreeMap<String, String>) -> Self {
        let set = VARIABLES.iter().filter_map(|(variable, keyword)| {
            let value = environment.get(*variable)?;
            Some(((*keyword).to_owned(), value.clone()))
        });
        Self(set.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// What is not said here is taken from `other`.
    pub(super) fn or(mut self, other: Self) -> Self {
        for (keyword, value) in other.0 {
            self.0.entry(keyword).or_insert(value);
        }
        self
    }

    pub(super) fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(String::as_str)
    }

    fn url(&mut self, rest: &str) -> Result<(), SettingsError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (account, hosts) = match authority.rsplit_once('@') {
            Some((account, hosts)) => (account, hosts),
            None => ("", authority),
        };
        let (user, password) = account.split_once(':').unwrap_or((account, ""));
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for one in hosts.split(',') {
            let (name, port) = host_and_port(one)?;
            names.push(decode(name)?);
            ports.push(decode(port)?);
        }
        self.put("user", decode(user)?)?;
        self.put("password", decode(password)?)?;
        self.put("dbname", decode(database)?)?;
        self.put("host", names.join(","))?;
        if ports.iter().any(|port| !port.is_empty()) {
            self.put("port", ports.join(","))?;
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (keyword, value) = pair.split_once('=').ok_or(SettingsError::Url {
                what: "an option after `?` has no `=`",
            })?;
            self.put(&decode(keyword)?, decode(value)?)?;
        }
        Ok(())
    }

    fn pairs(&mut self, text: &str) -> Result<(), SettingsError> {
        let mut rest = text.trim_start();
        if rest.is_empty() {
            return Err(SettingsError::Url {
                what: "it is empty",
            });
        }
        while !rest.is_empty() {
            let (keyword, after) = rest.split_once('=').ok_or(SettingsError::Url {
                what: "it is neither a URL nor keyword=value pairs",
            })?;
            let (value, after) = pair_value(after.trim_start())?;
            self.put(keyword.trim_end(), value)?;
            rest = after.trim_start();
        }
        Ok(())
    }

    fn put(&mut self, keyword: &str, value: String) -> Result<(), SettingsError> {
        // As JDBC and libpq: an old way to say it.
        let (keyword, value) = match (keyword, value.as_str()) {
            ("ssl", "true") => ("sslmode", "require".to_owned()),
            _ => (keyword, value),
        };
        if KNOWN.contains(&keyword) {
            // PostgreSQL's texts end at a NUL.
            if value.contains('\0') {
                return Err(SettingsError::Url {
                    what: "it has a NUL",
                });
            }
            // An empty value counts as none, as in libpq.
            if !value.is_empty() {
                self.0.insert(keyword.to_owned(), value);
            }
        } else if !WITHOUT_EFFECT.contains(&keyword) {
            // A misplaced `=` could make a part of a password look like a keyword.
            let harmless =
                keyword.len() <= 40 && keyword.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let option = if harmless { keyword } else { "?" };
            return Err(SettingsError::UnknownOption {
                option: option.to_owned(),
            });
        }
        Ok(())
    }
}

/// Of `name`, `name:port`, `[::1]` or `[::1]:port`.
fn host_and_port(text: &str) -> Result<(&str, &str), SettingsError> {
    let Some(inner) = text.strip_prefix('[') else {
        return Ok(text.split_once(':').unwrap_or((text, "")));
    };
    let wrong = SettingsError::Url {
        what: "an IPv6 address is not `[address]` or `[address]:port`",
    };
    match inner.split_once(']') {
        Some((name, "")) => Ok((name, "")),
        Some((name, port)) => port.strip_prefix(':').map(|port| (name, port)).ok_or(wrong),
        None => Err(wrong),
    }
}

/// The value that `text` begins with: plain up to a space, or in single quotes; a backslash
/// takes the next character as it is.
fn pair_value(text: &str) -> Result<(String, &str), SettingsError> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            letter if letter.is_whitespace() && !quoted => return Ok((value, &text[at..])),
            letter => value.push(letter),
        }
    }
    if quoted {
        return Err(SettingsError::Url {
            what: "a quoted value does not end",
        });
    }
    Ok((value, ""))
}

fn decode(text: &str) -> Result<String, SettingsError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| SettingsError::Url {
            what: "a %-sequence is not UTF-8",
        })
}
