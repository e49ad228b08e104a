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

mod name;
mod settings;

mod connection;
mod error;
mod scripts;

mod job;
mod queue;

mod durability;
mod inspect;
mod operate;

mod consumer;

pub use consumer::{Consumer, ConsumerEnded, ConsumerHealth, Handler, JobContext, WorkerIdentity};
pub use durability::Durability;
pub use error::{QueueError, Retry};
pub use inspect::{JobState, JobView, QueueStats, RunningJob, WorkerView};
pub use job::{Enqueued, IfRunning, Job, NewJob, Outcome};
pub use name::{JobId, Priority, PriorityError, QueueName, QueueNameError};
pub use operate::{Cancelled, Killed};
pub use queue::Queue;
pub use settings::{QueueSettings, RedisSettings};
