//! The catalog against a real PostgreSQL 15 that this binary starts itself.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking, and the server's programs are found through the environment"
)]

mod postgres;
mod world;

mod adoption;
mod backups_view;
mod bases;
mod claims;
mod clock;
mod clusters;
mod completion;
mod connection;
mod intake;
mod migrations;
mod status;
