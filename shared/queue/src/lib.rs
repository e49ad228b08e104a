//! A job queue on Redis, and an apalis backend that consumes it.
//!
//! Knows jobs, not WAL. Strict priorities, delays, retries, dead letters, unique
//! jobs, leases that a crashed worker loses within seconds. What each Redis key
//! means stands in `docs/queue.md`; the rules themselves are the Lua scripts in
//! `scripts/`, which are read in the order [`Queue::enqueue`], claim, renew,
//! finish.
//!
//! The clock is Redis's, read inside the scripts. A job may run twice (its worker
//! froze and came back): a handler has to be idempotent; what is excluded is that
//! the one that lost its lease changes anything in the queue.
//!
//! Without the feature `client` there are settings, names and the payload's envelope only.

#![cfg_attr(
    not(feature = "client"),
    expect(dead_code, reason = "what only the client asks of jobs and settings")
)]

mod contradiction;
mod name;
mod settings;

#[cfg(feature = "client")]
mod connection;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "client")]
mod scripts;

mod job;
#[cfg(feature = "client")]
mod queue;

#[cfg(feature = "client")]
mod durability;
#[cfg(feature = "client")]
mod inspect;
#[cfg(feature = "client")]
mod operate;

#[cfg(feature = "client")]
mod consumer;

#[cfg(feature = "client")]
pub use consumer::{Consumer, ConsumerEnded, ConsumerHealth, Handler, JobContext, WorkerIdentity};
pub use contradiction::Contradiction;
#[cfg(feature = "client")]
pub use durability::Durability;
#[cfg(feature = "client")]
pub use error::{QueueError, Retry};
#[cfg(feature = "client")]
pub use inspect::{JobState, JobView, QueueStats, RunningJob, WorkerView};
pub use job::{Enqueued, Envelope, IfRunning, Job, NewJob, Outcome};
pub use name::{JobId, Priority, PriorityError, QueueName, QueueNameError};
#[cfg(feature = "client")]
pub use operate::{Cancelled, Killed};
#[cfg(feature = "client")]
pub use queue::Queue;
pub use settings::{QueueSettings, RedisSettings};
