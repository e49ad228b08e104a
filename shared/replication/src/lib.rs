//! PostgreSQL's replication protocol, as far as base backups need it.
//!
//! `settings` says which server, `connect` gets in, [`Connection`] asks, and
//! [`BaseBackupStream`] reads a base backup as it comes: nothing is read from the socket
//! before it is asked for, so a slow cloud slows down the server and fills no memory.
//!
//! `tokio-postgres` has no replication mode, and the crates that have one speak logical
//! replication only; message formats and SCRAM are `postgres-protocol`'s. Servers from 14 on.
//! Protocol: <https://www.postgresql.org/docs/15/protocol-replication.html>.

mod backup;
mod connect;
mod connection;
mod error;
mod message;
mod quantity;
mod settings;
mod wire;

pub use backup::{BackupEvent, BaseBackupOptions, BaseBackupStream, StartPoint, TablespaceInfo};
pub use connection::{Connection, Identity};
pub use error::{ReplicationError, Retry};
pub use message::ServerMessage;
pub use settings::{ServerSettings, SettingsError};
