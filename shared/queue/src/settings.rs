use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::contradiction::Contradiction;

/// How a queue behaves. Every default is written in [`Default`] and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long a claimed job is its worker's without a sign of life. With
    /// `poll`, it bounds how late a crashed worker's job runs elsewhere.
    pub lease: Duration,
    /// How often leases are renewed and the worker says that it lives.
    pub renew: Duration,
    /// The longest that an idle worker goes without asking for a job.
    pub poll: Duration,
    /// Delay before the second attempt; doubles with each further one.
    pub retry_base: Duration,
    /// The longest delay between two attempts.
    pub retry_max: Duration,
    /// After so many attempts a job goes to the dead letters, unless it brings a
    /// limit of its own.
    pub max_attempts: u32,
    /// A handler that takes longer is cancelled; a failed attempt.
    pub handler_timeout: Duration,
    /// How long a cancelled handler has to return before it is dropped.
    pub cancel_grace: Duration,
    /// For how long a job that this build does not know is given back.
    pub unknown_job_delay: Duration,
    /// A job that nobody has known for so long goes to the dead letters.
    pub unknown_job_limit: Duration,
    /// Ended jobs kept for inspection, the newest.
    pub done_cap: u32,
    /// Dead letters kept, the newest.
    pub dead_cap: u32,
    /// A worker without a sign of life for so long vanishes from the list.
    pub worker_stale: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            renew: Duration::from_secs(2),
            poll: Duration::from_millis(500),
            retry_base: Duration::from_secs(2),
            retry_max: Duration::from_secs(5 * 60),
            max_attempts: 25,
            handler_timeout: Duration::from_secs(6 * 60 * 60),
            cancel_grace: Duration::from_secs(5),
            unknown_job_delay: Duration::from_secs(30),
            unknown_job_limit: Duration::from_secs(60 * 60),
            done_cap: 1_000,
            dead_cap: 10_000,
            worker_stale: Duration::from_secs(15),
        }
    }
}

impl QueueSettings {
    /// # Errors
    /// When the settings contradict each other; the message names them.
    pub fn validate(&self) -> Result<(), Contradiction> {
        let demand = |holds: bool, problem: &'static str| {
            if holds {
                Ok(())
            } else {
                Err(Contradiction(problem))
            }
        };
        demand(
            self.lease >= Duration::from_millis(100) && self.lease <= Duration::from_secs(3600),
            "`lease` must be between 100 ms and 1 h",
        )?;
        demand(
            !self.renew.is_zero() && self.renew * 3 <= self.lease,
            "`renew` must be above 0 and at most a third of `lease`, or one slow answer loses a lease",
        )?;
        demand(
            self.poll >= Duration::from_millis(1) && self.poll <= self.lease,
            "`poll` must be at least 1 ms and at most `lease`",
        )?;
        demand(
            self.retry_base <= self.retry_max,
            "`retry_base` must not exceed `retry_max`",
        )?;
        demand(self.max_attempts > 0, "`max_attempts` must be above 0")?;
        demand(
            self.worker_stale >= self.renew * 2,
            "`worker_stale` must be at least twice `renew`",
        )
    }

    /// Exponential back-off with jitter: between half and all of
    /// `retry_base * 2^(attempt - 1)`, at most `retry_max`. The jitter keeps jobs
    /// that failed together from coming back together.
    pub(crate) fn retry_delay(&self, attempt: u32) -> Duration {
        let doubled = 1_u32
            .checked_shl(attempt.saturating_sub(1))
            .and_then(|factor| self.retry_base.checked_mul(factor))
            .unwrap_or(self.retry_max)
            .min(self.retry_max);
        doubled.mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}

/// Where Redis is.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://` or `rediss://`, with user and password if any.
    pub url: SecretString,
    /// Certificates (PEM) trusted instead of the public ones; `rediss://` only.
    pub ca_certificates: Option<PathBuf>,
    /// How long one answer may take, connecting included. Longer than Redis
    /// needs to fork or to rewrite its log; a stall is waited out, not fled from.
    pub response_timeout: Duration,
}

impl RedisSettings {
    /// With the defaults: public certificates, 5 s for an answer.
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self {
            url: url.into(),
            ca_certificates: None,
            response_timeout: Duration::from_secs(5),
        }
    }

    /// The address without user and password.
    pub fn address(&self) -> String {
        match Url::parse(self.url.expose_secret()) {
            Ok(url) => format!(
                "{}://{}:{}",
                url.scheme(),
                url.host_str().unwrap_or_default(),
                url.port().unwrap_or(6379)
            ),
            Err(_) => "(not a URL)".to_owned(),
        }
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("address", &self.address())
            .field("ca_certificates", &self.ca_certificates)
            .field("response_timeout", &self.response_timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_defaults_agree_with_each_other() {
        QueueSettings::default().validate().unwrap();
    }

    #[test]
    fn a_renewal_interval_that_leaves_no_second_chance_is_refused() {
        let settings = QueueSettings {
            renew: Duration::from_secs(4),
            ..QueueSettings::default()
        };
        assert!(
            settings
                .validate()
                .unwrap_err()
                .to_string()
                .contains("renew")
        );
    }

    #[test]
    fn a_password_is_never_printed() {
        let settings = RedisSettings::new("rediss://bob:geheim@cache:6380/1");
        assert_eq!(settings.address(), "rediss://cache:6380");
        assert!(!format!("{settings:?}").contains("geheim"));
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let hour = Duration::from_secs(3600);
        let settings = QueueSettings::default();
        assert_eq!(settings.unknown_job_limit, hour);
        assert_eq!(settings.handler_timeout, hour * 6);
        assert_eq!((settings.done_cap, settings.dead_cap), (1_000, 10_000));
        assert_eq!(settings.max_attempts, 25);
    }

    #[test]
    fn jobs_that_failed_together_do_not_come_back_together() {
        let settings = QueueSettings::default();
        let delays: std::collections::BTreeSet<_> =
            (0..50).map(|_| settings.retry_delay(5)).collect();
        assert!(delays.len() > 10, "{delays:?}");
        let (first, last) = (delays.first().unwrap(), delays.last().unwrap());
        assert!(first.mul_f64(1.2) < *last, "{delays:?}");
    }

    proptest! {
        #[test]
        fn back_off_grows_to_its_limit_and_jitter_stays_within_half(attempt in 1_u32..200) {
            let settings = QueueSettings::default();
            let full = settings
                .retry_base
                .as_secs_f64()
                * 2_f64.powi(i32::try_from(attempt).unwrap() - 1);
            let full = full.min(settings.retry_max.as_secs_f64());
            let delay = settings.retry_delay(attempt).as_secs_f64();
            prop_assert!(delay <= full + 1e-6 && delay >= full * 0.5 - 1e-6);
        }
    }
}
