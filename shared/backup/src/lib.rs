//! A base backup of a cluster, from its server into every repository and the catalog: what
//! the job `base-backup` and the command `walferry backup` both do.
//!
//! 1. `lease`: one base at a time of a cluster.
//! 2. `histories`: timeline histories that a repository lacks are asked of the server.
//! 3. `complete`: what a cloud missed of earlier bases is copied from another; remains of
//!    interrupted ones are removed.
//! 4. `run`: the base is taken and recorded.
//!
//! `listing` reads what repositories hold, with or without a catalog.
//!
//! What is absent: when to take one, and how often to try. The catalog is optional: the
//! objects in the buckets are the truth, and its rows follow them.

mod complete;
mod error;
mod histories;
mod lease;
mod listing;
mod run;
mod server;

pub use complete::{Completed, recorded};
pub use error::BackupError;
pub use histories::HistoryError;
pub use listing::{WalReach, reach};
pub use run::{Backup, Outcome, Report};
pub use server::{LibpqMay, server};
