//! Retention against a real catalog, with buckets in memory that can fail, stall, keep
//! versions and tell the wrong time.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking, and the server's programs are found through the environment"
)]

mod bucket;
mod postgres;
mod world;

mod comparing;
mod deleting;
mod guards;
mod interrupted;
