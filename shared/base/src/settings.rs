//! How a base is cut, packed and stored, and what that costs in memory.

use std::time::Duration;

use walferry_pack::pool::PackPool;

const MIB: u64 = 1 << 20;
/// One PUT takes 5 GiB; what is read back may unpack to 1 GiB.
const LARGEST: u64 = 1 << 30;
const SMALLEST: u64 = 1 << 10;
/// Slices besides those being packed: one is filled, one is sent.
const SPARE: u64 = 2;

/// Bytes of a tar archive in one slice, 1 KiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceSize(u32);

/// No size that a slice can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a slice of {0} bytes is not possible: it has 1 KiB to 1 GiB")]
pub struct SliceSizeError(u64);

/// How `take` works.
#[derive(Clone)]
pub struct TakeSettings {
    /// Where slices are packed and hashed: as many at once as it has threads.
    pub pool: PackPool,
    pub slice_size: SliceSize,
    /// gzip's, 1 to 9.
    pub level: u8,
    /// Bytes of slices in memory, see [`TakeSettings::memory_bound`]; derived from the slice's
    /// size and the pool's threads if `None`.
    pub memory_limit: Option<u64>,
    /// Slices on their way to one repository at once, at least one.
    pub uploads: usize,
    /// A repository that finishes no slice for so long, while some are under way to it, is
    /// dropped. A link that needs longer for one slice needs smaller slices.
    pub stall: Duration,
    pub patience: Patience,
    /// Removing the remains of a base that failed may take so long; what is left is `clean`'s.
    pub cleanup: Duration,
}

/// How often a request that failed is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// In all, at least one.
    pub attempts: u32,
    /// Before the second; doubles with each, spread by half.
    pub wait: Duration,
}

impl TakeSettings {
    /// Slices of 32 MiB at level 6, four on their way to each repository, which is dropped
    /// after two minutes without one.
    #[must_use]
    pub fn new(pool: PackPool) -> Self {
        Self {
            pool,
            slice_size: SliceSize::DEFAULT,
            level: 6,
            memory_limit: None,
            uploads: 4,
            stall: Duration::from_secs(120),
            patience: Patience::default(),
            cleanup: Duration::from_secs(20),
        }
    }

    /// Bytes of slices that are in memory at most, packed and not, for all repositories
    /// together; the larger of `memory_limit` and the least that works: one slice, and for
    /// each packing thread the slice that it packs into.
    ///
    /// Besides these there are one message of the server, `backup_manifest` packed (some 50
    /// bytes for each file of the database) and what the threads keep (8 MiB each).
    #[must_use]
    pub fn memory_bound(&self) -> u64 {
        self.budget() + self.packing()
    }

    /// Bytes that slices may have together from their first byte until all repositories have
    /// them: unpacked until they are packed, packed from then on.
    pub(crate) fn budget(&self) -> u64 {
        let slice = self.slice_size.bytes() as u64;
        let threads = self.pool.threads() as u64;
        self.memory_limit
            .map_or(slice * (threads + SPARE), |limit| {
                limit.saturating_sub(self.packing())
            })
            .max(slice)
    }

    /// What slices are packed into while they still lie there unpacked.
    fn packing(&self) -> u64 {
        // Content that does not pack gets larger, by 5 bytes in 64 KiB and a few heads.
        let packed = self.slice_size.bytes() as u64 * 1001 / 1000 + 1024;
        self.pool.threads() as u64 * packed
    }
}

impl Default for Patience {
    /// Four attempts, after waits of 0.5, 1 and 2 s.
    fn default() -> Self {
        Self {
            attempts: 4,
            wait: Duration::from_millis(500),
        }
    }
}

impl SliceSize {
    /// 32 MiB.
    pub const DEFAULT: Self = Self((32 * MIB) as u32);

    #[must_use]
    pub fn bytes(self) -> usize {
        self.0 as usize
    }
}

impl TryFrom<u64> for SliceSize {
    type Error = SliceSizeError;

    fn try_from(bytes: u64) -> Result<Self, SliceSizeError> {
        match u32::try_from(bytes) {
            Ok(size) if (SMALLEST..=LARGEST).contains(&bytes) => Ok(Self(size)),
            _ => Err(SliceSizeError(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_has_at_least_a_kibibyte_and_at_most_a_gibibyte() {
        for bad in [0, SMALLEST - 1, LARGEST + 1, u64::MAX] {
            assert!(SliceSize::try_from(bad).is_err(), "{bad}");
        }
        assert_eq!(SliceSize::try_from(LARGEST).unwrap().bytes(), 1 << 30);
    }

    #[test]
    fn the_bound_is_the_limit_unless_less_would_not_work() {
        let settings = TakeSettings::new(PackPool::start(2).unwrap());
        let with = |memory_limit| TakeSettings {
            memory_limit,
            ..settings.clone()
        };
        assert_eq!(with(Some(500 * MIB)).memory_bound(), 500 * MIB);
        let least = with(Some(1)).memory_bound();
        assert!((96 * MIB..97 * MIB).contains(&least), "{least}");
        let usual = with(None).memory_bound();
        assert!((192 * MIB..193 * MIB).contains(&usual), "{usual}");
    }
}
