use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whether a consumer consumes; asked by `/healthz` and `/readyz`, and truthful
/// although it lives outside the consumer: it does not see flags that somebody has
/// to remember to lower, but how long ago the loops last turned.
#[derive(Debug, Clone)]
pub struct ConsumerHealth(Arc<Mutex<Pulse>>);

#[derive(Debug)]
struct Pulse {
    /// How long a loop may go without turning.
    limit: Duration,
    /// The claimer finished a round: an answer or an error, or all slots taken.
    claimer: Instant,
    /// apalis polled the backend.
    worker: Instant,
    draining: bool,
    /// It ended because it was asked to.
    shut_down: bool,
    ended: Option<String>,
    /// Since when claims and renewals fail, and with what error.
    failing: [Option<(Instant, String)>; 2],
    reached: bool,
}

/// Who talks to Redis. Each for itself: with all slots taken nobody claims, and a
/// renewal that works does not make claims work.
#[derive(Debug, Clone, Copy)]
pub(super) enum Talk {
    Claims,
    Renewals,
}

impl ConsumerHealth {
    /// For a consumer that is about to be started.
    pub fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(Pulse {
            limit: Duration::from_secs(12),
            claimer: now,
            worker: now,
            draining: false,
            shut_down: false,
            ended: None,
            failing: [None, None],
            reached: false,
        })))
    }

    /// Whether the consumer's loops turn; with Redis down they do.
    ///
    /// # Errors
    /// Says what stands still: the consumer has ended although nobody asked, or for more than 12 s
    /// (with a response timeout of 5 s) nobody asked for jobs or took them.
    pub fn alive(&self) -> Result<(), String> {
        let pulse = self.pulse();
        // It did what it was asked to. The program may go on for a while: another queue's
        // consumer drains, and a restart now would cut that short.
        if pulse.shut_down {
            return Ok(());
        }
        if let Some(why) = &pulse.ended {
            return Err(format!("the consumer has ended: {why}"));
        }
        // A drain takes no jobs any more and is bounded by its grace.
        if pulse.draining {
            return Ok(());
        }
        for (last, what) in [
            (pulse.claimer, "asked the queue for jobs"),
            (pulse.worker, "taken jobs that were claimed"),
        ] {
            if last.elapsed() > pulse.limit {
                let seconds = last.elapsed().as_secs();
                return Err(format!("the consumer has not {what} for {seconds} s"));
            }
        }
        Ok(())
    }

    /// Whether jobs can be had: alive, not draining, Redis answers.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn ready(&self) -> Result<(), String> {
        self.alive()?;
        let pulse = self.pulse();
        if pulse.draining {
            return Err("the consumer is draining".to_owned());
        }
        if let Some((since, error)) = pulse.failing.iter().flatten().next() {
            let seconds = since.elapsed().as_secs();
            return Err(format!("no queue for {seconds} s: {error}"));
        }
        if !pulse.reached {
            return Err("the queue has not been reached yet".to_owned());
        }
        Ok(())
    }

    /// Why the consumer has ended, if it has.
    pub fn ended(&self) -> Option<String> {
        self.pulse().ended.clone()
    }

    /// Whether a shutdown is under way.
    pub fn draining(&self) -> bool {
        self.pulse().draining
    }

    pub(super) fn begin(&self, limit: Duration) {
        let mut pulse = self.pulse();
        pulse.limit = limit;
        pulse.claimer = Instant::now();
        pulse.worker = Instant::now();
    }

    pub(super) fn claimer_turned(&self) {
        self.pulse().claimer = Instant::now();
    }

    pub(super) fn worker_turned(&self) {
        self.pulse().worker = Instant::now();
    }

    /// Returns whether this is news.
    pub(super) fn redis_answered(&self, talk: Talk) -> bool {
        let mut pulse = self.pulse();
        pulse.reached |= matches!(talk, Talk::Claims);
        pulse.failing[talk as usize].take().is_some()
    }

    /// Returns whether this is news.
    pub(super) fn redis_failed(&self, talk: Talk, error: String) -> bool {
        let failing = &mut self.pulse().failing[talk as usize];
        let since = failing.as_ref().map(|(since, _)| *since);
        *failing = Some((since.unwrap_or_else(Instant::now), error));
        since.is_none()
    }

    pub(super) fn drain(&self) {
        self.pulse().draining = true;
    }

    /// The drain is over.
    pub(super) fn shut_down(&self) {
        let mut pulse = self.pulse();
        pulse.shut_down = pulse.ended.is_none();
        pulse
            .ended
            .get_or_insert_with(|| "it was shut down".to_owned());
    }

    /// The first reason stays.
    pub(super) fn end(&self, why: &str) {
        self.pulse().ended.get_or_insert_with(|| why.to_owned());
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ConsumerHealth {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_reported_even_while_the_other_turns() {
        let health = ConsumerHealth::new();
        health.begin(Duration::from_millis(50));
        assert_eq!(health.alive(), Ok(()));
        std::thread::sleep(Duration::from_millis(60));
        health.worker_turned();
        assert!(health.alive().unwrap_err().contains("asked the queue"));
        health.claimer_turned();
        assert_eq!(health.alive(), Ok(()));
        std::thread::sleep(Duration::from_millis(60));
        health.claimer_turned();
        assert!(health.alive().unwrap_err().contains("taken jobs"));
    }

    #[test]
    fn the_first_reason_for_the_end_stays() {
        let health = ConsumerHealth::new();
        health.end("panic");
        health.end("dropped");
        assert_eq!(health.ended().as_deref(), Some("panic"));
        assert!(health.alive().unwrap_err().contains("panic"));
    }

    #[test]
    fn with_redis_down_the_consumer_is_alive_but_not_ready() {
        let health = ConsumerHealth::new();
        // Saying that one lives is not yet asking for jobs.
        health.redis_answered(Talk::Renewals);
        assert!(health.ready().is_err());
        health.redis_answered(Talk::Claims);
        assert_eq!(health.ready(), Ok(()));
        assert!(health.redis_failed(Talk::Renewals, "refused".into()));
        assert!(!health.redis_failed(Talk::Renewals, "refused".into()));
        // A claim that works does not hide that renewals fail.
        health.redis_answered(Talk::Claims);
        assert_eq!(health.alive(), Ok(()));
        assert!(health.ready().unwrap_err().contains("refused"));
        assert!(health.redis_answered(Talk::Renewals));
        assert_eq!(health.ready(), Ok(()));
    }
}
