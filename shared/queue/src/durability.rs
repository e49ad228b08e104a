//! Whether Redis keeps what it is told. Asked, never changed.

use crate::error::QueueError;
use crate::queue::Queue;

/// What Redis says of itself; `None` where it does not say (a managed service may not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durability {
    /// The append-only file is on: without it a restart forgets jobs.
    pub append_only: Option<bool>,
    /// The last write to that file succeeded.
    pub written: Option<bool>,
    /// What happens when memory is full; all but `noeviction` drop jobs in silence.
    pub eviction: Option<String>,
}

impl Queue {
    /// # Errors
    /// Redis away, or this user may not ask.
    pub async fn durability(&self) -> Result<Durability, QueueError> {
        let info: String = self
            .connection
            .run(|mut redis| async move { redis::cmd("INFO").query_async(&mut redis).await })
            .await?;
        Ok(Durability::parse(&info))
    }
}

impl Durability {
    fn parse(info: &str) -> Self {
        let field = |name: &str| {
            info.lines()
                .filter_map(|line| line.trim().split_once(':'))
                .find(|(field, _)| *field == name)
                .map(|(_, value)| value)
        };
        Self {
            append_only: field("aof_enabled").map(|value| value == "1"),
            written: field("aof_last_write_status").map(|value| value == "ok"),
            eviction: field("maxmemory_policy").map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_does_not_say_is_unknown() {
        let told = "# Memory\r\nmaxmemory_policy:allkeys-lru\r\n# Persistence\r\naof_enabled:0\r\n";
        let durability = Durability::parse(told);
        assert_eq!(durability.append_only, Some(false));
        assert_eq!(durability.written, None);
        assert_eq!(durability.eviction.as_deref(), Some("allkeys-lru"));
    }
}
