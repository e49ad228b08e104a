//! What a running program tells: logs, metrics and health.

mod health;
mod logs;
mod metrics;
mod queues;

pub use health::{Checks, HealthError, HealthServer, Report};
pub use logs::{Format, LogError, init_logs};
pub use metrics::{BreakerState, ClaimOutcome, EnqueueOutcome, JobOutcome, Metrics};
pub use queues::follow_queues;
