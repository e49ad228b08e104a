//! The integration tests: one binary, one file per subject.
//!
//! `harness_*` files test the harness itself, so that a test that is green
//! because its proxy does nothing cannot be.

mod architecture;
mod archive;
mod backfill;
mod bases;
mod check;
mod clouds;
mod codes;
mod commands;
mod configuration;
mod directories;
mod harness_clouds;
mod harness_postgres;
mod harness_proxy;
mod high_water;
mod import;
mod intake;
mod liveness;
mod objects;
mod outages;
mod output;
mod ownership;
mod priorities;
mod retention;
mod rpo;
mod scheduler;
mod streaming;
mod timelines;
mod tls;
mod workers;
