//! The world that walferry's integration tests live in: real PostgreSQL
//! servers, a Redis, S3 servers that check signatures, proxies that break them,
//! and the real binaries as processes. `README.md` beside this crate's manifest
//! shows how a test uses it.
//!
//! Everything here is synchronous and panics with a message that says what was
//! awaited and what was there instead: a test reads as a list of steps.

mod scratch;

mod clock;
mod ports;

pub mod mounts;

pub mod environment;
pub mod users;

pub mod binaries;
pub mod process;
pub mod wait;

pub mod postgres;
pub mod redis_server;

pub mod clouds;
pub mod proxy;
pub mod sigv4;
pub mod tls;
pub mod wire;

pub mod originals;
pub mod wal;

pub mod world;

pub use clouds::{Bucket, Cloud, Kind};
pub use postgres::Postgres;
pub use process::{Finished, Process};
pub use proxy::{Fault, Proxy, Rule};
pub use users::User;
pub use wait::{eventually, eventually_within};
pub use wire::{Cut, Wire};
pub use world::{Intake, World, WorldBuilder};
