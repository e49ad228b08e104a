//! The server that bases come from.

use std::collections::BTreeMap;

use secrecy::SecretString;
use walferry_replication::{ServerSettings, SettingsError};

/// The server of a URL, of which libpq's variables say what it leaves open; else the one that
/// these name, if they may. `None` without both.
///
/// # Errors
/// When the URL or the variables cannot be used.
pub fn server(
    url: Option<&SecretString>,
    libpq: &BTreeMap<String, String>,
    libpq_may: LibpqMay,
) -> Result<Option<ServerSettings>, SettingsError> {
    match (url, libpq_may) {
        (Some(url), _) => ServerSettings::from_url_and_environment(url, libpq).map(Some),
        (None, LibpqMay::NameTheServer) => ServerSettings::from_environment(libpq).map(Some),
        (None, LibpqMay::FillIn) => Ok(None),
    }
}

/// What libpq's variables are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibpqMay {
    /// Their server, or libpq's own default, is the cluster's.
    NameTheServer,
    /// Only what a URL leaves open.
    FillIn,
}
