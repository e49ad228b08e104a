use std::fmt;

/// Size of a cluster's segments in bytes: a power of two from 1 MiB to 1 GiB
/// (`xlog_internal.h`, `IsValidWalSegSize`).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct SegmentSize(u32);

/// A number of bytes that no segment can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes is no segment size: a power of two from 1 MiB to 1 GiB is")]
pub struct SegmentSizeError(pub u64);

impl SegmentSize {
    /// What `initdb` makes when nobody asks for another: 16 MiB.
    pub const DEFAULT: Self = Self(16 << 20);

    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 as u64
    }

    /// Segments per "log", the middle part of a name: 4 GiB / size.
    #[must_use]
    pub const fn per_log(self) -> u64 {
        (1 << 32) / self.bytes()
    }
}

impl TryFrom<u64> for SegmentSize {
    type Error = SegmentSizeError;

    fn try_from(bytes: u64) -> Result<Self, SegmentSizeError> {
        match u32::try_from(bytes) {
            Ok(size) if size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size) => {
                Ok(Self(size))
            }
            _ => Err(SegmentSizeError(bytes)),
        }
    }
}

impl From<SegmentSize> for u64 {
    fn from(size: SegmentSize) -> u64 {
        size.bytes()
    }
}

impl fmt::Display for SegmentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0 >> 20)
    }
}
