//! Working a queue off: an apalis `Worker` under a `Monitor`, over our backend.
//!
//! Four things run beside each other and share [`Shared`]: the claimer asks Redis
//! for one job per free slot; the backend hands it to apalis, which runs the
//! handler in a task of its own and has the outcome acknowledged; the lease keeper,
//! a thread that no handler can block, renews leases and watches the deadlines; the
//! wake listener shortens the claimer's naps.

mod acknowledge;
mod backend;
mod claimer;
mod handler;
mod health;
mod identity;
mod lease_keeper;
mod leases;
mod run;
mod shared;
mod wake;

pub use handler::{Handler, JobContext};
pub use health::ConsumerHealth;
pub use identity::WorkerIdentity;
pub use run::{Consumer, ConsumerEnded};
