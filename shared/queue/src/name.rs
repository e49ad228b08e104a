use std::fmt;
use std::str::FromStr;

/// A queue's name: 1 to 64 of `a-z 0-9 - _`, so that it can stand in a Redis key
/// between braces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(String);

/// 0 to 10; 10 is taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

/// A job's identity, chosen by whoever enqueues it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(String);

impl QueueName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What every key of the queue begins with.
    pub(crate) fn hash_tag(&self) -> String {
        format!("{{{}}}", self.0)
    }
}

impl FromStr for QueueName {
    type Err = QueueNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if (1..=64).contains(&text.len()) && text.bytes().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(QueueNameError(text.to_owned()))
        }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that names no queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no queue name: 1 to 64 characters of a-z, 0-9, - and _")]
pub struct QueueNameError(String);

impl Priority {
    pub const LOWEST: Self = Self(0);
    pub const HIGHEST: Self = Self(10);

    pub fn get(self) -> u8 {
        self.0
    }
}

/// The middle, 5.
impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

impl TryFrom<u8> for Priority {
    type Error = PriorityError;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        if number <= Self::HIGHEST.0 {
            Ok(Self(number))
        } else {
            Err(PriorityError(number.to_string()))
        }
    }
}

impl FromStr for Priority {
    type Err = PriorityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<u8>()
            .map_err(|_| PriorityError(text.to_owned()))
            .and_then(Self::try_from)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no priority: 0 to 10, 10 is taken first")]
pub struct PriorityError(String);

impl JobId {
    pub(crate) fn new() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// An id as Redis holds it.
    pub(crate) fn from_redis(id: String) -> Self {
        Self(id)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Any text: an id that no job has is found out by asking for the job.
impl From<&str> for JobId {
    fn from(id: &str) -> Self {
        Self(id.to_owned())
    }
}

impl FromStr for JobId {
    type Err = std::convert::Infallible;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(id))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_name_cannot_break_out_of_its_hash_tag() {
        for good in ["backups", "db-1_wal", "0", &"a".repeat(64)] {
            assert_eq!(good.parse::<QueueName>().unwrap().as_str(), good);
        }
        for bad in ["", "a}b", "{a", "A", "a b", "a:b", "ä", &"a".repeat(65)] {
            assert!(bad.parse::<QueueName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn priorities_are_0_to_10() {
        assert_eq!("10".parse(), Ok(Priority::HIGHEST));
        assert_eq!("0".parse(), Ok(Priority::LOWEST));
        for bad in ["11", "-1", "high", ""] {
            assert!(bad.parse::<Priority>().is_err(), "{bad}");
        }
    }
}
