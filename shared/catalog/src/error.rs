//! What can go wrong between a caller and the catalog.

use std::path::PathBuf;

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use walferry_proof::{KeyPrefix, Sha256};
use walferry_wal::SystemId;

use crate::connection::SettingsError;
use crate::ids::{Attempt, FileId};

type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("the catalog's URL cannot be used")]
    Settings(#[from] SettingsError),
    #[error("CA certificates `{path}` cannot be used")]
    CaCertificates { path: PathBuf, source: Source },

    #[error("catalog `{place}` cannot be reached")]
    Unreachable { place: String, source: Source },
    #[error("catalog `{place}` did not answer within {seconds} s")]
    ConnectTimeout { place: String, seconds: u64 },
    #[error("no secure connection to catalog `{place}`")]
    Tls { place: String, source: Source },
    #[error("catalog `{place}` refuses the user or password")]
    Authentication { place: String, source: Source },
    #[error("catalog `{place}` has no such database")]
    NoDatabase { place: String, source: Source },
    #[error("catalog `{place}` has no free connection slot")]
    TooManyConnections { place: String, source: Source },
    #[error("catalog `{place}` is starting up, shutting down or in recovery")]
    NotReady { place: String, source: Source },
    #[error("catalog `{place}` refuses the connection")]
    Refused { place: String, source: Source },
    #[error("all {size} connections of this process to the catalog are in use")]
    PoolExhausted { size: usize },

    #[error("the connection to the catalog was lost")]
    Disconnected(#[source] QueryError),
    #[error("the catalog is read-only")]
    ReadOnly(#[source] QueryError),
    #[error("the catalog gave up on a statement or a lock after its time limit")]
    StatementTimeout(#[source] QueryError),
    #[error("the catalog refused a statement")]
    Query(#[source] QueryError),

    #[error("the catalog's schema lacks {}", .pending.join(", "))]
    SchemaOlder { pending: Vec<String> },
    #[error("the catalog's schema has `{version}`, which this program does not know")]
    SchemaNewer { version: String },
    #[error("migration of the catalog failed")]
    Migration { source: Source },

    /// Another worker has the file now, or may have: whatever this claim was about to
    /// write did not happen.
    #[error("claim {attempt} of file {file} was lost")]
    LostClaim { file: FileId, attempt: Attempt },
    #[error("`{name}` is registered with content {recorded}, this file holds {found}")]
    Conflict {
        name: String,
        recorded: Sha256,
        found: Sha256,
    },
    /// A proof about another object than the claimed file's.
    #[error("a proof about `{proven}` cannot complete `{expected}`")]
    ForeignProof { expected: String, proven: String },
    #[error("file `{name}` has no recorded content yet, so no copy of it can be verified")]
    NotPacked { name: String },

    #[error("prefix `{prefix}` belongs to system {recorded}, not to {found}")]
    SystemMismatch {
        prefix: KeyPrefix,
        recorded: SystemId,
        found: SystemId,
    },
    #[error("system {system} archives into `{prefix}` of the same cluster")]
    SystemElsewhere { system: SystemId, prefix: KeyPrefix },
    #[error("prefix `{prefix}` holds segments of {recorded} bytes, not of {found}")]
    SegmentSizeMismatch {
        prefix: KeyPrefix,
        recorded: u64,
        found: u64,
    },
    #[error("prefix `{prefix}` overlaps with `{taken}` of cluster `{cluster}`")]
    PrefixTaken {
        prefix: KeyPrefix,
        taken: String,
        cluster: String,
    },
    #[error("cluster `{cluster}` archives into `{open}`, never into `{configured}`")]
    PrefixDiffers {
        cluster: String,
        open: KeyPrefix,
        configured: KeyPrefix,
    },
    #[error("the catalog has no {what} `{name}`")]
    Unknown { what: &'static str, name: String },
    #[error("the catalog holds `{value}`, which is no {what}")]
    Malformed { what: &'static str, value: String },
}

/// When it makes sense to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// At once or within seconds.
    Soon,
    /// With a back-off: the catalog is away.
    Later,
    /// Not before a person acted.
    Operator,
    /// Never: this claim or this content is settled.
    Never,
}

impl CatalogError {
    pub fn retry(&self) -> Retry {
        match self {
            Self::PoolExhausted { .. } | Self::Disconnected(_) | Self::StatementTimeout(_) => {
                Retry::Soon
            }
            Self::Unreachable { .. }
            | Self::ConnectTimeout { .. }
            | Self::TooManyConnections { .. }
            | Self::NotReady { .. }
            | Self::ReadOnly(_)
            | Self::Refused { .. }
            | Self::Query(_) => Retry::Later,
            Self::Settings(_)
            | Self::CaCertificates { .. }
            | Self::Tls { .. }
            | Self::Authentication { .. }
            | Self::NoDatabase { .. }
            | Self::SchemaOlder { .. }
            | Self::SchemaNewer { .. }
            | Self::Migration { .. }
            | Self::SystemMismatch { .. }
            | Self::SystemElsewhere { .. }
            | Self::SegmentSizeMismatch { .. }
            | Self::PrefixTaken { .. }
            | Self::PrefixDiffers { .. }
            | Self::Malformed { .. } => Retry::Operator,
            Self::LostClaim { .. }
            | Self::Conflict { .. }
            | Self::ForeignProof { .. }
            | Self::NotPacked { .. }
            | Self::Unknown { .. } => Retry::Never,
        }
    }

    /// What the operator can do, as one sentence.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Settings(_) => {
                Some("HINT: DATABASE_URL looks like postgresql://user:password@host:5432/catalog")
            }
            Self::CaCertificates { .. } => Some("HINT: give a readable PEM file of certificates"),
            Self::Unreachable { .. } | Self::ConnectTimeout { .. } => Some(
                "HINT: look whether the catalog's server runs and whether a firewall is between",
            ),
            Self::Tls { .. } => Some(
                "HINT: compare sslmode with the server's `ssl`, and name its CA with sslrootcert",
            ),
            Self::Authentication { .. } => {
                Some("HINT: compare the URL's user and password with pg_hba.conf and the role")
            }
            Self::NoDatabase { .. } => {
                Some("HINT: create it with `createdb`, then run `walferry catalog migrate`")
            }
            Self::TooManyConnections { .. } => {
                Some("HINT: raise the server's max_connections or lower the pool size")
            }
            Self::ReadOnly(_) => Some(
                "HINT: the URL may point at a standby; target_session_attrs=read-write avoids it",
            ),
            Self::SchemaOlder { .. } => Some("HINT: run `walferry catalog migrate`"),
            Self::SchemaNewer { .. } => {
                Some("HINT: a newer walferry migrated this catalog; upgrade this one too")
            }
            Self::SystemMismatch { .. } => Some(
                "HINT: after pg_upgrade run `walferry cluster upgrade`; else check which server archives into this directory",
            ),
            Self::SystemElsewhere { .. } => Some(
                "HINT: the next prefix is for the system that pg_upgrade makes; this one stays in its own",
            ),
            Self::PrefixTaken { .. } | Self::PrefixDiffers { .. } => {
                Some("HINT: give each cluster a key prefix of its own and keep it")
            }
            Self::NotReady { .. }
            | Self::Refused { .. }
            | Self::PoolExhausted { .. }
            | Self::Disconnected(_)
            | Self::StatementTimeout(_)
            | Self::Query(_)
            | Self::Migration { .. }
            | Self::LostClaim { .. }
            | Self::Conflict { .. }
            | Self::ForeignProof { .. }
            | Self::NotPacked { .. }
            | Self::SegmentSizeMismatch { .. }
            | Self::Unknown { .. }
            | Self::Malformed { .. } => None,
        }
    }

    pub fn is_lost_claim(&self) -> bool {
        matches!(self, Self::LostClaim { .. })
    }
}

impl From<QueryError> for CatalogError {
    fn from(error: QueryError) -> Self {
        let QueryError::DatabaseError(kind, information) = &error else {
            return match error {
                QueryError::BrokenTransactionManager => Self::Disconnected(error),
                _ => Self::Query(error),
            };
        };
        match kind {
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => {
                Self::Disconnected(error)
            }
            DatabaseErrorKind::ReadOnlyTransaction => Self::ReadOnly(error),
            // diesel keeps no SQLSTATE for these; the server's words are all there is.
            _ if information
                .message()
                .starts_with("canceling statement due to") =>
            {
                Self::StatementTimeout(error)
            }
            _ if information.message().starts_with("terminating connection") => {
                Self::Disconnected(error)
            }
            _ => Self::Query(error),
        }
    }
}
