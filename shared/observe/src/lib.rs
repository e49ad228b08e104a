//! What a running program tells: logs, metrics and health.

mod health;
mod logs;
mod metrics;

pub use health::{Checks, HealthError, HealthServer, Report};
pub use logs::{Format, LogError, init_logs};
pub use metrics::{BreakerState, ClaimOutcome, EnqueueOutcome, JobOutcome, Metrics, QueueDepth};
