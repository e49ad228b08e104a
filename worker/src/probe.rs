//! Asks the clouds that are down whether they are back, and wakes what waits for them.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use walferry_archive::archiver::Target;
use walferry_catalog::{
    claims,
    repositories::{self, Health},
};
use walferry_observe::{BreakerState as Gauge, Metrics};
use walferry_store::{BreakerState, ReadRepository as _};

use crate::{jobs::continuous_wal_archiving::follow_up, setup::Setup};

/// How often the breakers are looked at: more often than one can open and close again.
const EVERY: Duration = Duration::from_millis(500);
/// How often a cloud is asked whose breaker is not closed: it is spared, and its return is
/// noticed all the same.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// A question that hangs for so long is answered: no. In a black hole the next one may
/// already be heard.
const PATIENCE: Duration = Duration::from_secs(10);
/// While it answers and no PUT has got through yet, one copy is tried this often.
const TRY_EVERY: Duration = Duration::from_secs(10);
/// How often the health of a repository is written although nothing changed.
const REPORT: Duration = Duration::from_secs(10);

/// Runs until `shutdown`.
pub async fn run(setup: Setup, metrics: Metrics, shutdown: CancellationToken) {
    // Each on its own: a cloud that takes its time to answer hides nobody else's return.
    let watched = setup
        .archiver
        .repositories()
        .iter()
        .map(|target| watch(&setup, target, &metrics));
    shutdown
        .run_until_cancelled(futures::future::join_all(watched))
        .await;
}

async fn watch(setup: &Setup, target: &Target, metrics: &Metrics) {
    let mut standing = Standing::default();
    let mut reported: Option<Instant> = None;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if standing.asks(&target.store.state(), Instant::now()) {
            let answer = tokio::time::timeout(PATIENCE, target.store.probe()).await;
            standing.hear(match answer {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.cause()),
                Err(_) => Err("timeout"),
            });
        }
        match standing.look(&target.store.state(), Instant::now()) {
            Step::Nothing => {}
            step @ (Step::Try | Step::Wake) => wake(setup, target, &step).await,
        }
        let state = target.store.state();
        metrics.breaker(target.name().as_str(), gauge(&state));
        let due = reported.is_none_or(|at| at.elapsed() >= REPORT);
        let health = standing.health(&state);
        if (due || standing.news) && report(setup, target, &health).await.is_ok() {
            reported = Some(Instant::now());
            standing.news = false;
        }
    }
}

/// What this worker knows of one cloud. The breaker alone would not do: it is half open
/// whenever a wait is over, whether anything has answered or not.
#[derive(Default)]
struct Standing {
    phase: Phase,
    asked: Option<Instant>,
    /// Why it did not answer when it was asked last.
    silent: Option<&'static str>,
    /// It was silent, and answered since.
    heard: bool,
    /// It fell or came back since the last report.
    news: bool,
}

#[derive(Clone, Copy, Default)]
enum Phase {
    /// As far as this worker knows.
    #[default]
    Well,
    Down,
    /// It answers questions, and takes no copies yet; since when one is being tried.
    Tried(Instant),
    /// It was silent and answers: the next copy shows the rest.
    Back,
}

/// What follows from a look.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// One copy is due now.
    Try,
    /// Every copy is.
    Wake,
}

impl Standing {
    /// Whether it is time for a question; counts as asked then.
    fn asks(&mut self, state: &BreakerState, now: Instant) -> bool {
        if matches!(state, BreakerState::Closed) {
            return false;
        }
        // Noted before the answer, which may close the breaker: a fall and a rise between
        // two looks are a return, too.
        if matches!(self.phase, Phase::Well) {
            (self.phase, self.news) = (Phase::Down, true);
        }
        let asks = self.asked.is_none_or(|at| now - at >= ASK_EVERY);
        if asks {
            self.asked = Some(now);
        }
        asks
    }

    fn hear(&mut self, answer: Result<(), &'static str>) {
        let before = std::mem::replace(&mut self.silent, answer.err());
        self.heard = answer.is_ok() && (self.heard || before.is_some());
    }

    fn look(&mut self, state: &BreakerState, now: Instant) -> Step {
        let open = matches!(state, BreakerState::Open { .. });
        let (phase, step) = match (state, self.phase) {
            (BreakerState::Closed, Phase::Well | Phase::Back) => (Phase::Well, Step::Nothing),
            // Copies that failed in between wait for this.
            (BreakerState::Closed, Phase::Down | Phase::Tried(_)) => (Phase::Well, Step::Wake),
            _ if open || self.silent.is_some() => (Phase::Down, Step::Nothing),
            (_, Phase::Back) => (Phase::Back, Step::Nothing),
            _ if std::mem::take(&mut self.heard) => (Phase::Back, Step::Wake),
            (_, Phase::Tried(at)) if now - at < TRY_EVERY => (Phase::Tried(at), Step::Nothing),
            _ => (Phase::Tried(now), Step::Try),
        };
        if matches!(phase, Phase::Well) {
            (self.asked, self.silent, self.heard) = (None, None, false);
        }
        self.news |= !matches!(phase, Phase::Tried(_))
            && std::mem::discriminant(&phase) != std::mem::discriminant(&self.phase);
        self.phase = phase;
        step
    }

    /// For the repository's row, which is one for all workers.
    fn health(&self, state: &BreakerState) -> Health {
        let cause = match state {
            BreakerState::Closed => None,
            BreakerState::Open { cause, .. } | BreakerState::HalfOpen { cause, .. } => Some(*cause),
        };
        let (state, cause, sure) = match self.phase {
            Phase::Down => (
                repositories::BreakerState::Open,
                self.silent.or(cause),
                true,
            ),
            Phase::Tried(_) => (repositories::BreakerState::HalfOpen, cause, false),
            // A worker that has sent nothing lately knows nothing against it, no more.
            Phase::Well | Phase::Back => (repositories::BreakerState::Closed, None, self.news),
        };
        let cause = cause.map(ToOwned::to_owned);
        Health {
            state,
            succeeded: sure && cause.is_none(),
            failed: cause.is_some(),
            last_error: cause.clone(),
            cause,
            sure,
        }
    }
}

/// Makes what is missing there due now, or one of it, and enqueues who copies it.
async fn wake(setup: &Setup, target: &Target, step: &Step) {
    let all = *step == Step::Wake;
    if all {
        tracing::info!(repository.name = %target.name(), "the repository answers again");
    }
    let due = async {
        let mut conn = setup.archiver.catalog().get().await?;
        if all {
            claims::make_due_now(&mut conn, target.name()).await
        } else {
            claims::make_one_due_now(&mut conn, target.name()).await
        }
    }
    .await;
    match due {
        Ok(copies) => {
            tracing::debug!(repository.name = %target.name(), copies, "missing copies are due now");
        }
        Err(error) => {
            // They come due by their own back-off.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "missing copies were not made due"
            );
        }
    }
    for directory in setup.directories.iter() {
        let Some(queue) = setup.queue(&directory.queue) else {
            continue;
        };
        if let Err(error) = queue
            .enqueue(follow_up(&directory.cluster, 1, Duration::ZERO))
            .await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the healing job was not enqueued"
            );
        }
    }
}

async fn report(setup: &Setup, target: &Target, health: &Health) -> anyhow::Result<()> {
    // Before this there may be no row to report into.
    setup.served().await?;
    let mut conn = setup.archiver.catalog().get().await?;
    repositories::report_health(&mut conn, target.name(), health).await?;
    Ok(())
}

fn gauge(state: &BreakerState) -> Gauge {
    match state {
        BreakerState::Closed => Gauge::Closed,
        BreakerState::HalfOpen { .. } => Gauge::HalfOpen,
        BreakerState::Open { .. } => Gauge::Open,
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use walferry_store::BreakerSettings;

    use super::*;

    fn half_open() -> BreakerState {
        BreakerState::HalfOpen {
            since: Utc::now(),
            cause: "refused",
        }
    }

    fn open() -> BreakerState {
        BreakerState::Open {
            since: Utc::now(),
            until: Utc::now(),
            cause: "refused",
        }
    }

    #[test]
    fn a_wait_that_is_over_is_no_answer_and_an_answer_wakes_once() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        assert_eq!(standing.look(&open(), now), Step::Nothing);
        assert!(standing.asks(&half_open(), now));
        standing.hear(Err("refused"));
        assert_eq!(standing.look(&half_open(), now), Step::Nothing);
        let health = standing.health(&half_open());
        assert!(health.sure && health.state == repositories::BreakerState::Open);
        assert!(!standing.asks(&half_open(), now), "it is spared");
        let now = now + ASK_EVERY;
        assert!(standing.asks(&half_open(), now));
        standing.hear(Ok(()));
        // Writing still waits.
        assert_eq!(standing.look(&open(), now), Step::Nothing);
        assert_eq!(standing.look(&half_open(), now), Step::Wake);
        assert_eq!(standing.look(&half_open(), now), Step::Nothing);
        assert_eq!(standing.look(&BreakerState::Closed, now), Step::Nothing);
    }

    #[test]
    fn a_cloud_that_answers_and_takes_no_copies_is_tried_with_one_at_a_time() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        assert_eq!(standing.look(&open(), now), Step::Nothing);
        standing.hear(Ok(()));
        assert_eq!(standing.look(&half_open(), now), Step::Try);
        assert_eq!(standing.look(&half_open(), now), Step::Nothing);
        assert!(!standing.health(&half_open()).sure);
        assert_eq!(standing.look(&open(), now), Step::Nothing);
        assert_eq!(standing.look(&half_open(), now), Step::Try);
        let now = now + TRY_EVERY;
        assert_eq!(standing.look(&half_open(), now), Step::Try);
        assert_eq!(standing.look(&BreakerState::Closed, now), Step::Wake);
        let health = standing.health(&BreakerState::Closed);
        assert!(health.sure && health.state == repositories::BreakerState::Closed);
    }

    #[test]
    fn a_fall_that_the_first_question_ends_is_a_return_too() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        assert!(standing.asks(&open(), now));
        standing.hear(Ok(()));
        assert_eq!(standing.look(&BreakerState::Closed, now), Step::Wake);
    }

    #[test]
    fn by_default_a_cloud_that_is_back_is_woken_within_60_seconds() {
        // The last question hangs, the next one is heard, and writing waits out its longest.
        let heard = PATIENCE + ASK_EVERY + EVERY;
        let writes = BreakerSettings::default().longest_wait + TRY_EVERY + EVERY;
        assert!(heard.max(writes) < Duration::from_secs(60));
    }
}
