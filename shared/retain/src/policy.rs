//! How long WAL is kept and when retention does not trust itself.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// The settings of retention. Defaults: 30 days, one base, a quarter, 10 minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// Recovery is promised to every moment of this last stretch of time.
    pub window: Duration,
    /// How many of the newest complete bases of each repository stay however old they are; at
    /// least one does.
    pub min_bases: usize,
    /// Largest share of a repository's copies, 0 to 1, that one run may delete without
    /// consent: a wrong clock or a wrong window shows as a plan that is too large.
    pub max_delete_share: f64,
    /// Largest difference between our clock, the catalog's and a cloud's.
    pub max_clock_difference: Duration,
}

impl Policy {
    /// What was archived before this moment is old enough to go.
    ///
    /// A window longer than time itself ends at the beginning: nothing is old enough.
    pub fn cutoff(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        TimeDelta::from_std(self.window)
            .ok()
            .and_then(|window| now.checked_sub_signed(window))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30 * 24 * 3600),
            min_bases: 1,
            max_delete_share: 0.25,
            max_clock_difference: Duration::from_secs(600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_longer_than_time_makes_nothing_old() {
        let policy = Policy {
            window: Duration::MAX,
            ..Policy::default()
        };
        assert_eq!(policy.cutoff(Utc::now()), DateTime::<Utc>::MIN_UTC);
    }
}
