//! The queue's promises, each against a Redis server of its own.

#![expect(
    clippy::unwrap_used,
    reason = "tests; the setting in clippy.toml does not reach their helpers"
)]

mod child;
mod proxy;
mod redis_server;
mod world;

mod basics;
mod docs;
mod drain;
mod failures;
mod health;
mod leases;
mod load;
mod operate;
mod order;
mod redis_faults;
mod tls;
mod unique;
mod unknown;
