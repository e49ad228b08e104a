use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::name::{JobId, Priority};

/// A job to be enqueued; start from [`NewJob::new`].
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    pub name: String,
    /// The version of `args`' shape.
    pub version: u32,
    pub args: serde_json::Value,
    pub priority: Priority,
    /// At most one job with this key waits.
    pub unique_key: Option<String>,
    /// For how long the key stays taken after the job has ended; zero frees it at
    /// once. A producer that may come late for a slot that another one has filled
    /// needs it.
    pub keep_key: Duration,
    /// What an enqueue means while the job with that key runs.
    pub if_running: IfRunning,
    pub delay: Duration,
    /// `None` is the queue's setting.
    pub max_attempts: Option<u32>,
}

/// What enqueueing a unique job means while the one that holds its key runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfRunning {
    /// The running one is enough: for slots of a schedule.
    #[default]
    Skip,
    /// The running one may have looked already: when it ends, the same script
    /// enqueues the new one, once, however often it was asked for.
    Again,
}

impl NewJob {
    /// Priority 5, no key, no delay, the queue's number of attempts.
    pub fn new(name: impl Into<String>, version: u32, args: serde_json::Value) -> Self {
        Self {
            name: name.into(),
            version,
            args,
            priority: Priority::default(),
            unique_key: None,
            keep_key: Duration::ZERO,
            if_running: IfRunning::Skip,
            delay: Duration::ZERO,
            max_attempts: None,
        }
    }
}

/// What became of an enqueue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    Added(JobId),
    /// This job holds the unique key; nothing was added.
    Duplicate(JobId),
    /// This job holds the unique key and runs; a new one follows it.
    Again(JobId),
}

impl Enqueued {
    /// The job that was added, or the one that stood in the way.
    pub fn id(&self) -> &JobId {
        match self {
            Self::Added(id) | Self::Duplicate(id) | Self::Again(id) => id,
        }
    }
}

/// A job in the hands of a handler.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub name: String,
    pub version: u32,
    pub args: serde_json::Value,
    /// 1 is the first.
    pub attempt: u32,
    pub max_attempts: u32,
    pub priority: Priority,
    pub enqueued_at: DateTime<Utc>,
    /// How long it has been ready before a worker had a slot for it.
    pub waited: Duration,
}

/// What a handler says about its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A failed attempt; `None` is the queue's back-off.
    Retry {
        error: String,
        after: Option<Duration>,
    },
    /// Not now, or not here: no attempt is counted.
    GiveBack {
        delay: Duration,
        reason: String,
    },
    /// To the dead letters, whatever attempts are left.
    Dead {
        error: String,
    },
}

/// A job's payload as it lies in Redis: versioned JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    pub name: String,
    pub version: u32,
    pub args: serde_json::Value,
}

impl Envelope {
    /// As it is written.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a value that came from JSON goes back into it")
    }

    /// # Errors
    /// When it is not the JSON of an envelope.
    pub fn parse(payload: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(payload)
    }
}

pub(crate) fn time_from_ms(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}
