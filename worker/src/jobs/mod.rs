//! The handlers: one file per job, of the same name as its payload.

pub mod backfill;
pub mod base_backup;
pub mod continuous_wal_archiving;
pub mod retention;
