use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::queue::Queue as QueueTag;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use apalis_core::worker::ext::ack::AcknowledgeLayer;
use tokio::time::{Interval, MissedTickBehavior};

use super::acknowledge::Acknowledger;
use super::shared::{Claimed, Shared};
use crate::job::Job;
use crate::settings::QueueSettings;

/// What apalis takes its jobs from. It never fails: an error returned here would
/// end the worker, so Redis's faults are dealt with in the claimer.
pub(super) struct RedisBackend {
    shared: Arc<Shared>,
    /// Has the worker's loop turn, and so say that it lives, while nothing happens.
    tick: Interval,
}

impl RedisBackend {
    /// Inside a tokio runtime.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { shared, tick }
    }
}

impl Backend for RedisBackend {
    type Task = Task<Job>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        _worker: &WorkerContext,
    ) -> Poll<Result<(), Self::Error>> {
        while self.tick.poll_tick(cx).is_ready() {}
        self.shared.health.worker_turned();
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _worker: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Self::Error>>> {
        self.shared.waker.register(cx.waker());
        match self.shared.take() {
            Some(claimed) => Poll::Ready(Some(Ok(task(&self.shared, claimed)))),
            // Without a claimer no job will ever come: the worker ends, and with it
            // the consumer, which says so.
            None if self.shared.claimer_is_gone() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Waits until the claimer has given back what no handler has begun. apalis
    /// asks for this last, when all handlers have returned; the claimer begins with
    /// it when the drain begins.
    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        _worker: &WorkerContext,
    ) -> Poll<Result<(), Self::Error>> {
        self.shared.waker.register(cx.waker());
        if self.shared.claimer_is_gone() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

impl BackendConfig for RedisBackend {
    type Args = Job;
    type Id = TaskId;
    type Kind = Ephemeral;
    type Config = QueueSettings;
    type Layer = AcknowledgeLayer<Acknowledger>;

    fn config(&self) -> &Self::Config {
        self.shared.queue.settings()
    }

    fn middleware(&mut self, _worker: &mut WorkerContext) -> Self::Layer {
        AcknowledgeLayer::new(Acknowledger(Arc::clone(&self.shared)))
    }
}

fn task(shared: &Shared, Claimed { job, claim }: Claimed) -> Task<Job> {
    TaskBuilder::new(job.clone())
        .task_id(TaskId::from_string(job.id.as_str()))
        // apalis adds one when it polls the handler for the first time.
        .attempt(usize::try_from(job.attempt.saturating_sub(1)).unwrap_or(usize::MAX))
        .max_attempts(usize::try_from(job.max_attempts).unwrap_or(usize::MAX))
        .priority(usize::from(job.priority.get()))
        .queue(QueueTag::from(shared.queue.name().as_str()))
        .data(claim)
        .build()
}
