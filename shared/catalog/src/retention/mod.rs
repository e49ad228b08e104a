//! Letting files go: what there is, runs that fence each other, and expiry in three steps.
//!
//! `begin_expiry` commits the intention, `copy_deleted` follows each deleted object,
//! `finish_expiry` replaces a row without copies by a tombstone. A crash between any two of
//! them leaves a row that is EXPIRING, which the next run finds and goes on with: no object
//! is ever without a row, and no row that lost an object still says VERIFIED.

mod expire;
mod inventory;
mod missing;
mod runs;

pub use expire::{
    Begun, MayDelete, begin_expiry, copy_deleted, copy_not_deleted, finish_expiry, may_delete,
    may_go_on,
};
pub use inventory::{FileStatus, RetentionCopy, RetentionFile, files, registered};
pub use missing::{AfterLoss, copy_missing};
pub use runs::{RunId, RunResult, RunRow, Started, finish_run, last_run, start_run};
