//! Archiving, as a segment lives it. Each step consumes what the one before
//! returned; none looks back.
//!
//! 1. [`register`]: scan a directory, examine what is new, write rows.
//! 2. [`cycle`]: claim rows and run them, bounded, until nothing is left.
//! 3. [`process`]: one claimed file: check, pack, upload, verify, complete, delete.
//! 4. [`heal`]: a missing copy from the cloud that has one.
//!
//! What came of the copies is in [`copied`]; the end of a claim on disk in `settle`.

pub mod archiver;
pub mod copied;
pub mod cycle;
pub mod foreign;
pub mod heal;
pub mod import;
mod import_error;
pub mod lanes;
pub mod leases;
pub mod local;
pub mod owner;
pub mod process;
pub mod register;
mod settle;
pub mod stages;
pub mod stream;
mod systems;
pub mod upload;
