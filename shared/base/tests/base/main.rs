//! Base backups against real S3 servers, from a server that sends what a test wrote down.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod clouds;
mod memory;
mod odd;
mod script;

mod copying;
mod dropping;
mod ending;
mod keeping;
mod listing;
mod taking;
