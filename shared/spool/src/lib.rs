//! The archive directory: what PostgreSQL has handed over and no cloud holds yet.
//!
//! A file in it may be the only copy of its WAL, so this crate is the only one that renames
//! or unlinks there. Synchronous; only `Watch` needs tokio. It knows no catalog: that a file
//! may be deleted is proven by the caller, who wraps `delete`.
//!
//! Names of ours in the directory begin with `.walferry` (temporary names of `push` and
//! `delete`, the ledger of handed-over history files); `quarantine/` is a subfolder.

mod compare;
mod directory;
mod inspect;
mod lock;
mod names;
mod open;
mod stat;
mod suspicion;

mod histories;
mod push;
mod push_error;
mod stale;

mod delete;
mod people;
mod permissions;
mod quarantine;
mod scan;
mod usage;
mod watch;

pub use delete::{DeleteError, Deleted, delete, delete_while};
pub use directory::{Directory, DirectoryError};
pub use inspect::{Content, InspectError, Inspected, inspect, read_header};
pub use open::{MAX_WHOLE, OpenError, ReadError, SpooledFile, StreamError, open_checked};
pub use permissions::{PermissionFinding, Severity, check_permissions, usable};
pub use push::{DEFAULT_MODE, Limit, PushSettings, Pushed, push};
pub use push_error::PushError;
pub use quarantine::{QuarantineError, Quarantined, quarantine_list, quarantine_move};
pub use scan::{Entry, ScanError, scan};
pub use stat::FileId;
pub use suspicion::Suspicion;
pub use usage::{Usage, usage};
pub use watch::Watch;
