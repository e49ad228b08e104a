//! `/healthz` (alive), `/readyz` (able to work) and `/metrics`.

mod checks;
mod server;

pub use checks::{Checks, Report};
pub use server::{HealthError, HealthServer};
