//! The archive directory against files that a real PostgreSQL made, real users and real
//! crashes.
//!
//! Needs PostgreSQL 14 to 18, `strace`, and root for the tests with two users. What is
//! missing fails; nothing is skipped.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests are the foreign hands that rename and remove files"
)]

mod postgres;
mod scratch;
mod tool;

mod delete;
mod histories;
mod inspect;
mod intake;
mod permissions;
mod push;
mod quarantine;
mod scan;
mod usage;
mod watch;
