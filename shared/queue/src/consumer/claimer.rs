use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::health::Talk;
use super::leases::Lease;
use super::shared::{Ending, Finished, Shared};
use crate::error::QueueError;
use crate::job::{Envelope, Job, time_from_ms};
use crate::name::{JobId, Priority};
use crate::scripts::arguments;
use walferry_killpoint::kill_point;

pub(super) type Knows = Box<dyn Fn(&str, u32) -> bool + Send + Sync>;

/// Asks for one job whenever a slot is free, until the drain begins; then gives
/// back what no handler has begun.
pub(super) async fn claim_until_drained(shared: Arc<Shared>, knows: Knows, wake: Arc<Notify>) {
    // Also when this task panics: the backend must not wait for it.
    let _gone = Gone(Arc::clone(&shared));
    let free = Arc::new(Semaphore::new(shared.slots));
    let mut claims = Claims {
        token: 1,
        in_doubt: false,
    };
    while let Some(slot) = free_slot(&shared, &free).await {
        let Some((raw, asked)) = claims.next(&shared, &wake).await else {
            break;
        };
        accept(&shared, &knows, raw, asked, slot).await;
    }
    if claims.in_doubt {
        claims.take_back(&shared).await;
    }
    while let Some(claimed) = shared.take() {
        let ending = Ending {
            outcome: "give_back",
            message: "its worker shut down before it began".to_owned(),
            delay: Duration::ZERO,
            unknown: false,
        };
        shared
            .finish_persistently(&claimed.claim.lease, &ending)
            .await;
    }
}

/// A slot's permit, or `None` once the drain began.
async fn free_slot(shared: &Shared, free: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    loop {
        shared.health.claimer_turned();
        tokio::select! {
            biased;
            () = shared.drain.cancelled() => return None,
            permit = Arc::clone(free).acquire_owned() => return permit.ok(),
            // All slots taken: that is a turn, too.
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// The sequence of this worker's claims. A token serves for one job: a claim
/// without an answer is repeated with the same token and yields the same job.
struct Claims {
    token: u64,
    /// A claim with this token was sent and not answered: it may yet arrive.
    in_doubt: bool,
}

/// A job as the script `claim` hands it over.
struct Raw {
    id: JobId,
    payload: Vec<u8>,
    attempt: u32,
    max_attempts: u32,
    priority: u8,
    enqueued_ms: i64,
    waited_ms: u64,
    epoch: u64,
}

enum Answer {
    Job(Box<Raw>),
    /// Nothing ready; the next delayed job is due after so long.
    Empty(Option<Duration>),
    Paused,
    /// The token has been used up.
    Stale,
}

impl Claims {
    /// The next job and when it was asked for; `None` once the drain began.
    async fn next(&mut self, shared: &Shared, wake: &Notify) -> Option<(Raw, Instant)> {
        let poll = shared.queue.settings().poll;
        let mut trouble = Duration::from_millis(50);
        loop {
            let asked = Instant::now();
            let doubted = std::mem::replace(&mut self.in_doubt, true);
            let answer = tokio::select! {
                biased;
                () = shared.drain.cancelled() => return None,
                answer = claim(shared, self.token) => answer,
            };
            shared.health.claimer_turned();
            let nap = match answer {
                Ok(answer) => {
                    if shared.health.redis_answered(Talk::Claims) {
                        tracing::info!(queue.name = %shared.queue.name(), "the queue answers again");
                    }
                    trouble = Duration::from_millis(50);
                    match answer {
                        Answer::Job(raw) => {
                            kill_point!("queue.claim.after");
                            self.next_token();
                            return Some((*raw, asked));
                        }
                        Answer::Stale => {
                            self.next_token();
                            continue;
                        }
                        Answer::Paused => {
                            self.in_doubt = doubted;
                            poll
                        }
                        Answer::Empty(due) => {
                            self.in_doubt = doubted;
                            // Jitter keeps idle workers from asking in step; the
                            // last tenth is for the way to Redis.
                            poll.mul_f64(0.5 + 0.4 * fastrand::f64())
                                .min(due.unwrap_or(poll))
                        }
                    }
                }
                Err(error) => {
                    if shared.health.redis_failed(Talk::Claims, chain(&error)) {
                        tracing::warn!(queue.name = %shared.queue.name(), error = chain(&error), "the queue does not answer; this worker waits for it");
                    }
                    trouble = (trouble * 2).min(Duration::from_secs(1));
                    trouble
                }
            };
            tokio::select! {
                biased;
                () = shared.drain.cancelled() => return None,
                () = tokio::time::sleep(nap) => {}
                () = wake.notified() => {}
            }
        }
    }

    /// What was sent with an older token takes nothing any more.
    fn next_token(&mut self) {
        self.token += 1;
        self.in_doubt = false;
    }

    /// Settles a claim that was under way when the drain began: gives its job
    /// back, or makes sure that it takes none when it arrives late. If Redis stays
    /// away for as long as a lease, the lease does the rest.
    async fn take_back(&self, shared: &Shared) {
        let begun = Instant::now();
        let arguments = arguments![shared.worker.id, self.token];
        while begun.elapsed() < shared.queue.settings().lease {
            let answer: Result<String, _> = shared
                .queue
                .run(&shared.queue.scripts.unclaim, &arguments)
                .await;
            if answer.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn claim(shared: &Shared, token: u64) -> Result<Answer, QueueError> {
    let settings = shared.queue.settings();
    let arguments = arguments![
        shared.worker.id,
        token,
        settings.lease.as_millis(),
        settings.done_cap,
        settings.dead_cap,
    ];
    let answer: Vec<redis::Value> = shared
        .queue
        .run(&shared.queue.scripts.claim, &arguments)
        .await?;
    parse(&answer).map_err(|source| QueueError::Answer {
        what: source.to_string(),
    })
}

fn parse(answer: &[redis::Value]) -> Result<Answer, redis::ParsingError> {
    fn field<T: redis::FromRedisValue>(
        answer: &[redis::Value],
        index: usize,
    ) -> Result<T, redis::ParsingError> {
        T::from_redis_value(answer.get(index).cloned().unwrap_or(redis::Value::Nil))
    }
    Ok(match field::<String>(answer, 0)?.as_str() {
        "job" => Answer::Job(Box::new(Raw {
            id: JobId::from_redis(field(answer, 1)?),
            payload: field::<Option<Vec<u8>>>(answer, 2)?.unwrap_or_default(),
            attempt: field(answer, 3)?,
            max_attempts: field(answer, 4)?,
            priority: field(answer, 5)?,
            enqueued_ms: field(answer, 6)?,
            waited_ms: field(answer, 7)?,
            epoch: field(answer, 8)?,
        })),
        "empty" => {
            let due: i64 = field(answer, 1)?;
            Answer::Empty(u64::try_from(due).ok().map(Duration::from_millis))
        }
        "paused" => Answer::Paused,
        _ => Answer::Stale,
    })
}

/// Hands a job out, or ends it at once if this build cannot read or does not know
/// it.
async fn accept(
    shared: &Arc<Shared>,
    knows: &Knows,
    raw: Raw,
    asked: Instant,
    slot: OwnedSemaphorePermit,
) {
    let envelope = Envelope::parse(&raw.payload);
    let name = envelope
        .as_ref()
        .map_or_else(|_| String::new(), |e| e.name.clone());
    let lease = Lease::new(raw.id.clone(), raw.epoch, name, raw.attempt, asked);
    let settings = shared.queue.settings();
    let ending = match envelope {
        Ok(envelope) if knows(&envelope.name, envelope.version) => {
            let job = Job {
                id: raw.id,
                name: envelope.name,
                version: envelope.version,
                args: envelope.args,
                attempt: raw.attempt,
                max_attempts: raw.max_attempts,
                priority: Priority::try_from(raw.priority).unwrap_or_default(),
                enqueued_at: time_from_ms(raw.enqueued_ms),
                waited: Duration::from_millis(raw.waited_ms),
            };
            shared.hand_out(job, lease, slot);
            kill_point!("queue.hand-out.after");
            return;
        }
        Ok(envelope) => Ending {
            outcome: "give_back",
            message: format!(
                "no worker here knows job `{}` version {}; a newer worker may",
                envelope.name, envelope.version
            ),
            delay: settings.unknown_job_delay,
            unknown: true,
        },
        Err(error) => Ending {
            outcome: "dead",
            message: format!("the payload does not decode: {error}"),
            delay: Duration::ZERO,
            unknown: false,
        },
    };
    match shared.finish_persistently(&lease, &ending).await {
        Finished::As(state) if state == "dead" => {
            tracing::error!(job.id = %lease.id, reason = ending.message, "job went to the dead letters");
        }
        Finished::As(_) => {
            tracing::warn!(job.id = %lease.id, reason = ending.message, "job given back");
        }
        // The lease runs out and the next worker decides the same.
        Finished::Lost | Finished::Failed(_) => {}
    }
}

/// An error with its causes, for a log line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.claimer_gone.store(true, Ordering::Release);
        self.0.waker.wake();
    }
}
