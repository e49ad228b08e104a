use std::{fmt, num::NonZeroU32, str::FromStr};

use crate::{NameError, serde_as_text};

/// A timeline: 1 at initdb, one more at each promotion. Written as 8 upper-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimelineId(NonZeroU32);

/// The database system identifier that `initdb` made up. Written in decimal, as
/// `pg_controldata` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemId(u64);

impl TimelineId {
    /// `None` for 0, which is no timeline.
    #[must_use]
    pub const fn new(id: u32) -> Option<Self> {
        match NonZeroU32::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl SystemId {
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", self.get())
    }
}

impl FromStr for TimelineId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        hex8(text)
            .and_then(Self::new)
            .ok_or_else(|| NameError::of(text))
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for SystemId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

serde_as_text!(TimelineId);
serde_as_text!(SystemId);

/// Exactly eight upper-case hex digits: `from_str_radix` alone also takes `+` and lower case.
pub(crate) fn hex8(text: &str) -> Option<u32> {
    let good = text.len() == 8
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    if good {
        u32::from_str_radix(text, 16).ok()
    } else {
        None
    }
}
