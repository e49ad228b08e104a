//! A schedule of every N seconds, on multiples of N since the epoch, so that
//! every scheduler computes the same slots.
//!
//! The schedules that `apalis-cron` builds for "every 5 minutes" fire every 25; this is
//! the three lines that do not.

use std::time::{SystemTime, UNIX_EPOCH};

use apalis_cron::{Schedule, Tick, timezone::Utc};

/// Every `seconds`, which is at least 1.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    seconds: u64,
}

impl Interval {
    /// A schedule of every `interval`, rounded down to whole seconds, at least one.
    #[must_use]
    pub fn every(interval: std::time::Duration) -> Self {
        Self {
            seconds: interval.as_secs().max(1),
        }
    }

    /// The slot that `now` (seconds since the epoch) lies in: its first second.
    #[must_use]
    pub fn slot(&self, now: u64) -> u64 {
        now - now % self.seconds
    }
}

impl Schedule<Utc> for Interval {
    fn next_tick(&mut self, _: &Utc) -> Option<Tick<Utc>> {
        Some(Tick::new(self.slot(now()) + self.seconds))
    }
}

/// Seconds since the epoch; 0 when the clock stands before it.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn slots_are_multiples_of_the_interval() {
        let interval = Interval::every(Duration::from_secs(300));
        for (now, slot) in [(0, 0), (299, 0), (300, 300), (1_762_198_201, 1_762_198_200)] {
            assert_eq!(interval.slot(now), slot);
        }
    }

    #[test]
    fn the_next_tick_is_never_in_the_past_and_at_most_one_interval_away() {
        let mut interval = Interval::every(Duration::from_secs(300));
        let before = now();
        let tick = interval.next_tick(&Utc).map(|tick| tick.get_timestamp());
        let tick = tick.expect("an interval never ends");
        assert!(tick > before && tick <= now() + 300);
    }
}
