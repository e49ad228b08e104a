use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use apalis_core::error::BoxDynError;
use apalis_core::task::Task;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::Instrument;

use super::leases::{Lease, Why};
use super::shared::{Claim, Shared};
use crate::job::{Job, Outcome};

/// What runs the jobs. It has to be idempotent: a run whose worker froze or whose
/// acknowledgement was lost is repeated.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Whether this build runs such jobs; others are given back, as a newer worker
    /// may be rolling out.
    fn knows(&self, name: &str, version: u32) -> bool;

    /// Runs one job. A panic is a failed attempt.
    fn handle(&self, job: Job, context: JobContext) -> impl Future<Output = Outcome> + Send;
}

/// What a handler has to listen to.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// Stop now: the lease is lost, an operator cancelled the job, it timed out, or
    /// the grace of a shutdown is over. A handler that does not return within
    /// `cancel_grace` is dropped.
    pub cancel: CancellationToken,
    /// A shutdown began: finish what is in hand, begin nothing new.
    pub drain: CancellationToken,
}

/// The handler as the service that apalis calls.
#[derive(Clone)]
pub(super) struct HandlerService<H> {
    pub(super) handler: H,
    pub(super) shared: Arc<Shared>,
}

impl<H: Handler> Service<Task<Job>> for HandlerService<H> {
    type Response = Outcome;
    type Error = BoxDynError;
    type Future = BoxFuture<'static, Result<Outcome, BoxDynError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Job>) -> Self::Future {
        let claim = task.ctx().data().get::<Arc<Claim>>().cloned();
        let job = task.args;
        let Self { handler, shared } = self.clone();
        let span = tracing::info_span!(
            "job",
            job.id = %job.id,
            job.name = job.name,
            job.attempt = job.attempt,
            queue.name = %shared.queue.name(),
        );
        let work = async move {
            let claim = claim.ok_or("a task without a claim cannot be run")?;
            Ok(run(&handler, job, &claim.lease, &shared).await)
        };
        work.instrument(span).boxed()
    }
}

async fn run<H: Handler>(handler: &H, job: Job, lease: &Lease, shared: &Shared) -> Outcome {
    let context = JobContext {
        cancel: lease.cancel.clone(),
        drain: shared.drain.clone(),
    };
    let work = handler.handle(job, context);
    tokio::pin!(work);
    tokio::select! {
        biased;
        outcome = &mut work => return judged(outcome, lease, shared),
        () = lease.cancel.cancelled() => {}
    }
    let grace = shared.queue.settings().cancel_grace;
    match tokio::time::timeout(grace, &mut work).await {
        Ok(outcome) => judged(outcome, lease, shared),
        // Dropped at its next await; it had its time.
        Err(_) => stopped(lease, shared),
    }
}

/// What a handler says after it was told to stop is not all its own doing.
fn judged(outcome: Outcome, lease: &Lease, shared: &Shared) -> Outcome {
    match (outcome, lease.why()) {
        (Outcome::Retry { .. }, Some(Why::Drained)) => stopped(lease, shared),
        (outcome, _) => outcome,
    }
}

fn stopped(lease: &Lease, shared: &Shared) -> Outcome {
    match lease.why() {
        Some(Why::Drained) => Outcome::GiveBack {
            delay: std::time::Duration::ZERO,
            reason: "its worker shut down".to_owned(),
        },
        Some(Why::TimedOut) => Outcome::Retry {
            error: format!(
                "timed out after {:?}",
                shared.queue.settings().handler_timeout
            ),
            after: None,
        },
        // Redis knows that it was cancelled and makes that of it; a lost lease has
        // no say whatever this is.
        Some(Why::Cancelled | Why::Lost) | None => Outcome::Retry {
            error: "stopped".to_owned(),
            after: None,
        },
    }
}
