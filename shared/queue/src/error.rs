use std::path::PathBuf;
use std::time::Duration;

use crate::contradiction::Contradiction;
use crate::name::JobId;

/// What can go wrong between a program and its queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The settings contradict each other.
    #[error(transparent)]
    Settings(#[from] Contradiction),
    /// The URL is not one for Redis.
    #[error(
        "the Redis URL cannot be used. HINT: redis://[user:password@]host[:port][/database], or rediss:// for TLS"
    )]
    Url {
        #[source]
        source: redis::RedisError,
    },
    /// The file with trusted certificates cannot be used.
    #[error("cannot use the certificates in `{}`. HINT: a readable file with PEM certificates, and a rediss:// URL", path.display())]
    Certificates {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No connection, or it broke. It is unknown whether the order was carried out.
    #[error("Redis at `{address}` cannot be reached")]
    Unreachable {
        address: String,
        #[source]
        source: redis::RedisError,
    },
    /// No answer in time. It is unknown whether the order was carried out.
    #[error("Redis at `{address}` did not answer within {limit:?}")]
    Timeout { address: String, limit: Duration },
    /// Redis answered with an error.
    #[error("Redis at `{address}` refuses: {message}{}", hint(message))]
    Refused { address: String, message: String },
    /// Redis answered something that our scripts never say.
    #[error(
        "unexpected answer from Redis: {what}. HINT: is the key prefix of the queue used by another program?"
    )]
    Answer { what: String },
    /// There is no such job (any more: ended jobs are kept up to a cap).
    #[error("no job `{id}` in the queue")]
    NoSuchJob { id: JobId },
    /// The job is in a state in which that cannot be done.
    #[error("job `{id}` is {state}")]
    WrongState { id: JobId, state: String },
    /// Another job with the same unique key waits or runs.
    #[error("job `{holder}` with the same unique key waits or runs already")]
    KeyTaken { holder: JobId },
}

/// When the same call may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Redis is away or busy.
    Soon,
    /// Not before somebody changed something.
    Operator,
}

impl QueueError {
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Refused { .. } => Retry::Soon,
            Self::Settings(_)
            | Self::Url { .. }
            | Self::Certificates { .. }
            | Self::Answer { .. }
            | Self::NoSuchJob { .. }
            | Self::WrongState { .. }
            | Self::KeyTaken { .. } => Retry::Operator,
        }
    }
}

fn hint(message: &str) -> &'static str {
    let starts = |code: &str| message.starts_with(code);
    if starts("OOM") {
        ". HINT: raise `maxmemory`; with `maxmemory-policy noeviction` nothing was lost"
    } else if starts("NOAUTH") || starts("WRONGPASS") {
        ". HINT: put user and password into the Redis URL"
    } else if starts("READONLY") {
        ". HINT: this is a replica; give the address of the primary"
    } else if starts("MISCONF") {
        ". HINT: Redis cannot save to its disk; see its log"
    } else {
        ""
    }
}
