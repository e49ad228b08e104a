/// A URL or variables that name no server. No message holds the URL or a value that may be
/// a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error(
        "the server's URL does not parse: {what}. HINT: it looks like postgresql://user:password@host:5432/?sslmode=verify-full"
    )]
    Url { what: &'static str },
    #[error(
        "the server's URL has an option `{option}` that walferry does not know. HINT: host, hostaddr, port, user, password, passfile, sslmode, sslrootcert, sslcert, sslkey, connect_timeout, application_name and options are known"
    )]
    UnknownOption { option: String },
    /// Ignoring it would connect elsewhere, or with less safety, than was asked for.
    #[error("`{option}` asks for something that walferry does not do: {why}")]
    Unsupported {
        option: &'static str,
        why: &'static str,
    },
    #[error("`{option}` has a value that is {expected}")]
    Value {
        option: &'static str,
        expected: &'static str,
    },
    #[error("{what}: {hosts} hosts and {found} of them")]
    Count {
        what: &'static str,
        hosts: usize,
        found: usize,
    },
    #[error("nobody says as which user to connect. HINT: put user into the URL, or set PGUSER")]
    NoUser,
    #[error("the password for user `{user}` in the password file is not UTF-8")]
    PasswordEncoding { user: String },
}
