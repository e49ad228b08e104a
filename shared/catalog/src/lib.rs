//! The catalog: what walferry knows about every file it was ever handed, in a PostgreSQL
//! database of its own. All SQL of the project is in this crate.
//!
//! Functions are free, take the connection first and are named after the domain. Two rules
//! hold everywhere:
//!
//! * **Time is the catalog's.** Leases and back-offs are computed from its clock, never from
//!   a worker's, so that a worker with a wrong clock cannot steal or keep a claim.
//! * **A write of a claim repeats its token** (file and attempt) and treats zero rows as
//!   [`CatalogError::LostClaim`]: a worker that was frozen past its lease changes nothing.
//!
//! What is absent: clouds, Redis and the archive directory. The catalog only records what
//! others prove ([`walferry_proof::Verified`]), and hands out one proof of its own,
//! [`Archived`], which exists only after the commit it speaks of.

mod connection;
mod error;
mod ids;
mod migrations;
mod rows;

pub mod server;

pub mod clusters;
pub mod repositories;

pub mod intake;
pub mod suspects;

pub mod claims;
pub mod completion;

pub mod events;
pub mod labels;
pub mod protected;

pub mod adoption;
pub mod bases;
pub mod status;

pub mod holds;
pub mod identity;
pub mod retention;

pub use adoption::{Adopted, Adoption};
pub use claims::{Claim, ClaimRequest, Copy, CopyState, Encoder, LocalFile, PackedSize, ReleaseAs};
pub use clusters::{Cluster, Prefix};
pub use completion::{Archived, Completed, CopyFailure, Enough, Finished, Packed, Waiting};
pub use connection::{Catalog, CatalogSettings, Connection, SettingsError};
pub use error::{CatalogError, Retry};
pub use ids::{
    Attempt, BaseId, BaseRun, ClaimToken, ClusterId, DirectoryId, FileId, HoldId, PrefixId,
};
pub use intake::{LocalStat, NewFile, Registered, ScanReport, SeenFile};

/// A connection to the catalog, as every function here takes it.
pub use diesel_async::AsyncPgConnection as Conn;
