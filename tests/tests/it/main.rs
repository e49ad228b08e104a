//! The integration tests: one binary, one file per subject.
//!
//! `harness_*` files test the harness itself, so that a test that is green
//! because its proxy does nothing cannot be.

mod architecture;
mod archive;
mod backfill;
mod backups;
mod bases;
mod catalogs;
mod check;
mod clouds;
mod codes;
mod commands;
mod configuration;
mod conflicts;
mod directories;
mod fetch;
mod harness_clouds;
mod harness_postgres;
mod harness_proxy;
mod healing;
mod high_water;
mod import;
mod intake;
mod leases;
mod liveness;
mod logs;
mod marks;
mod metrics;
mod not_yet;
mod objects;
mod outages;
mod outages_of_a_cloud;
mod output;
mod ownership;
mod packing;
mod permissions;
mod priorities;
mod push;
mod queues;
mod reconcile;
mod retention;
mod retention_settings;
mod retired;
mod rpo;
mod scheduler;
mod secrets;
mod sizes;
mod strangers;
mod streaming;
mod timelines;
mod tls;
mod traversal;
mod upgrades;
mod workers;
