use std::path::PathBuf;
use std::time::Duration;
use std::{error::Error, io};

use crate::message::ServerMessage;

type BoxError = Box<dyn Error + Send + Sync>;

/// What can go wrong between us and a server. `server` is host and port as the settings name
/// them, never a password.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// No connection.
    #[error(
        "`{server}` cannot be reached. HINT: look whether the server runs, listens there, and whether a firewall is between"
    )]
    Unreachable {
        server: String,
        #[source]
        source: io::Error,
    },
    /// Connecting, TLS and authentication together took longer than `connect_timeout`.
    #[error(
        "`{server}` let nobody in within {limit:?}. HINT: look whether a firewall swallows packets; connect_timeout sets the limit"
    )]
    ConnectTimeout { server: String, limit: Duration },
    /// The server starts, shuts down or recovers.
    #[error("`{server}` lets nobody in yet")]
    NotReady {
        server: String,
        #[source]
        source: Box<ServerMessage>,
    },
    /// `sslmode` needs TLS and the server has none.
    #[error(
        "`{server}` offers no TLS. HINT: switch `ssl` on at the server; sslmode=disable connects without"
    )]
    NoTls { server: String },
    /// The TLS handshake failed: above all a certificate that `sslmode` does not accept.
    #[error(
        "TLS with `{server}` failed. HINT: sslrootcert names the authority of the server's certificate; with sslmode=verify-full the certificate names the host"
    )]
    Tls {
        server: String,
        #[source]
        source: io::Error,
    },
    /// A file with certificates, or with a key, cannot be used.
    #[error("`{}` cannot be used for TLS. HINT: give a readable PEM file", path.display())]
    Certificates {
        path: PathBuf,
        #[source]
        source: BoxError,
    },
    /// The server asks for a password and there is none.
    #[error(
        "`{server}` asks user `{user}` for a password and none is given. HINT: {}", note.as_deref().unwrap_or("put it into PGPASSWORD, or into ~/.pgpass with `replication` as the database")
    )]
    NoPassword {
        server: String,
        user: String,
        /// Why the password file was not used.
        note: Option<String>,
    },
    /// Password wrong, or no line of `pg_hba.conf` fits (SQLSTATE 28xxx).
    #[error("`{server}` refuses user `{user}`. HINT: {}", admission(&source.code))]
    Authentication {
        server: String,
        user: String,
        #[source]
        source: Box<ServerMessage>,
    },
    /// The role may log in and may not replicate (SQLSTATE 42501).
    #[error(
        "user `{user}` may not take base backups from `{server}`. HINT: the role needs the attribute: ALTER ROLE \"{user}\" REPLICATION"
    )]
    NotPermitted {
        server: String,
        user: String,
        #[source]
        source: Box<ServerMessage>,
    },
    /// The server wants to be shown something else than a password.
    #[error(
        "`{server}` asks for authentication by {method}, which walferry does not do. HINT: use scram-sha-256 or a client certificate in pg_hba.conf"
    )]
    Method {
        server: String,
        method: &'static str,
    },
    /// A password would cross the network readable.
    #[error(
        "`{server}` asks for the password in clear text over a connection without TLS. HINT: use scram-sha-256 in pg_hba.conf, or sslmode=require"
    )]
    ClearText { server: String },
    /// The exchange of SCRAM went wrong: the server did not prove that it knows the password.
    #[error(
        "`{server}` did not prove that it knows the password. HINT: something else than the server may answer there"
    )]
    NotProven {
        server: String,
        #[source]
        source: io::Error,
    },
    /// All WAL senders, or all connections, are in use (SQLSTATE 53300).
    #[error(
        "`{server}` has no free WAL sender. HINT: raise max_wal_senders, or look into pg_stat_replication for who has them"
    )]
    NoSlots {
        server: String,
        #[source]
        source: Box<ServerMessage>,
    },
    /// The server's version is older than 14.
    #[error("`{server}` is PostgreSQL {}, and walferry needs 14 or later", version / 10_000)]
    TooOld { server: String, version: u32 },
    /// The connection ended where an answer was due. A base backup begins anew.
    #[error("`{server}` went away during {during}")]
    Gone {
        server: String,
        during: &'static str,
        /// `None`: it closed the connection properly, and too early.
        #[source]
        source: Option<io::Error>,
    },
    /// The server sent nothing although it should.
    #[error("`{server}` sent nothing for {limit:?} during {during}")]
    Stalled {
        server: String,
        during: &'static str,
        limit: Duration,
    },
    /// The server answers with an error.
    #[error("`{server}` reports an error during {during}")]
    Server {
        server: String,
        during: &'static str,
        #[source]
        source: Box<ServerMessage>,
    },
    /// Something that the protocol does not have, or not here.
    #[error("unexpected answer from `{server}`: {what}")]
    Protocol {
        server: String,
        what: String,
        #[source]
        source: Option<BoxError>,
    },
    /// An argument of a command that PostgreSQL would refuse.
    #[error("{what}")]
    Argument { what: String },
}

/// When the same call may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// At once or within seconds: the connection broke.
    Soon,
    /// With a growing delay: the server is away or busy.
    Later,
    /// Not before a person changed something.
    Operator,
}

impl ReplicationError {
    /// When the same call may work.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Gone { .. } | Self::Stalled { .. } => Retry::Soon,
            Self::Unreachable { .. }
            | Self::ConnectTimeout { .. }
            | Self::NotReady { .. }
            | Self::NoSlots { .. } => Retry::Later,
            // Connection, rolled back, resources, not in that state now, operator
            // intervention, file system: the server's trouble, which may pass.
            Self::Server { source, .. } => match source.code.get(..2) {
                Some("08" | "40" | "53" | "55" | "57" | "58") => Retry::Later,
                _ => Retry::Operator,
            },
            Self::NoTls { .. }
            | Self::Tls { .. }
            | Self::Certificates { .. }
            | Self::NoPassword { .. }
            | Self::Authentication { .. }
            | Self::NotPermitted { .. }
            | Self::Method { .. }
            | Self::ClearText { .. }
            | Self::NotProven { .. }
            | Self::TooOld { .. }
            | Self::Protocol { .. }
            | Self::Argument { .. } => Retry::Operator,
        }
    }

    /// What the server itself said, if it did.
    #[must_use]
    pub fn server_message(&self) -> Option<&ServerMessage> {
        match self {
            Self::NotReady { source, .. }
            | Self::Authentication { source, .. }
            | Self::NotPermitted { source, .. }
            | Self::NoSlots { source, .. }
            | Self::Server { source, .. } => Some(source),
            Self::Unreachable { .. }
            | Self::ConnectTimeout { .. }
            | Self::NoTls { .. }
            | Self::Tls { .. }
            | Self::Certificates { .. }
            | Self::NoPassword { .. }
            | Self::Method { .. }
            | Self::ClearText { .. }
            | Self::NotProven { .. }
            | Self::TooOld { .. }
            | Self::Gone { .. }
            | Self::Stalled { .. }
            | Self::Protocol { .. }
            | Self::Argument { .. } => None,
        }
    }
}

fn admission(code: &str) -> &'static str {
    if code == "28P01" {
        "the password is wrong, or the role does not exist or has none"
    } else {
        "pg_hba.conf needs a line for database `replication`, this user and this machine's address, and the role needs LOGIN and REPLICATION; with `hostnossl` lines use sslmode=disable"
    }
}
