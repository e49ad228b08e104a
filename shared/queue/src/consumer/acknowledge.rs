use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apalis_core::error::BoxDynError;
use apalis_core::task::ExecutionContext;
use apalis_core::worker::ext::ack::Acknowledge;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::claimer::chain;
use super::shared::{Claim, Ending, Finished, Shared};
use crate::job::Outcome;

/// Tells Redis how a run ended; called by apalis when the handler has returned or
/// panicked.
#[derive(Clone)]
pub(super) struct Acknowledger(pub(super) Arc<Shared>);

impl Acknowledge<Outcome> for Acknowledger {
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn ack(
        &mut self,
        result: &Result<Outcome, BoxDynError>,
        context: &ExecutionContext,
    ) -> Self::Future {
        let claim = context.data().get::<Arc<Claim>>().cloned();
        let outcome = match result {
            Ok(outcome) => outcome.clone(),
            // A panic (apalis runs the handler as a task of its own, whose end it
            // reports), or a tower layer's error: one failed attempt like any other.
            Err(error) => Outcome::Retry {
                error: chain(&**error),
                after: None,
            },
        };
        let shared = Arc::clone(&self.0);
        async move {
            let Some(claim) = claim else {
                tracing::error!("a task without a claim cannot be acknowledged");
                return Ok(());
            };
            acknowledge(&shared, &claim, outcome).await;
            Ok(())
        }
        .boxed()
    }
}

async fn acknowledge(shared: &Shared, claim: &Claim, outcome: Outcome) {
    let lease = &claim.lease;
    let settings = shared.queue.settings();
    let (outcome, message, delay) = match outcome {
        Outcome::Done => ("done", String::new(), Duration::ZERO),
        Outcome::Retry { error, after } => {
            let delay = after.unwrap_or_else(|| settings.retry_delay(lease.attempt));
            ("retry", error, delay)
        }
        Outcome::GiveBack { delay, reason } => ("give_back", reason, delay),
        Outcome::Dead { error } => ("dead", error, Duration::ZERO),
    };
    let ending = Ending {
        outcome,
        message,
        delay,
        unknown: false,
    };
    let (id, name, attempt) = (&lease.id, &lease.name, lease.attempt);
    let message = ending.message.as_str();
    match shared.finish_persistently(lease, &ending).await {
        Finished::As(state) => match state.as_str() {
            "dead" => {
                tracing::error!(job.id = %id, job.name = name, job.attempt = attempt, reason = message, "job went to the dead letters");
            }
            "retry" => {
                tracing::warn!(job.id = %id, job.name = name, job.attempt = attempt, reason = message, delay_ms = ending.delay.as_millis(), "attempt failed, job will be tried again");
            }
            "give_back" => {
                tracing::info!(job.id = %id, job.name = name, reason = message, "job given back");
            }
            other => {
                tracing::debug!(job.id = %id, job.name = name, state = other, "job ended");
            }
        },
        Finished::Lost => {
            tracing::warn!(job.id = %id, job.name = name, job.attempt = attempt, "the lease was lost; this run changes nothing in the queue");
        }
        Finished::Failed(error) => {
            tracing::warn!(job.id = %id, job.name = name, job.attempt = attempt, error = chain(&error), "the end of a job could not be told to the queue; its lease runs out and it runs again");
        }
    }
}
