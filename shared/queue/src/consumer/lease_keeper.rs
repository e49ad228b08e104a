use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::claimer::chain;
use super::health::Talk;
use super::leases::{Lease, Why};
use super::shared::Shared;
use crate::connection::Connection;
use crate::error::QueueError;
use crate::inspect::RunningJob;
use crate::scripts::{self, arguments};
use walferry_killpoint::kill_point;

/// Starts the thread that renews this worker's leases, until `closed`. A thread
/// with a runtime and a connection of its own: apalis stops polling while it
/// drains, and a handler that blocks holds up the program's runtime. The receiver
/// gets a word when the thread has taken the worker off the list.
pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<oneshot::Receiver<()>> {
    let (gone, over) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("walferry-leases".to_owned())
        .spawn(move || {
            runtime.block_on(keep(&shared));
            gone.send(()).ok();
        })?;
    Ok(over)
}

async fn keep(shared: &Shared) {
    let settings = shared.queue.settings();
    // Half a lease leaves time for a second try over a new connection.
    let connection = shared.queue.connection.another(settings.lease / 2);
    let started = Instant::now();
    tokio::select! {
        () = shared.closed.cancelled() => {}
        () = renew_for_ever(shared, &connection, started) => {}
        () = watch_deadlines(shared) => {}
    }
    // A courtesy to whoever reads the list; without it the entry expires.
    drop(say_goodbye(shared, &connection).await);
}

async fn renew_for_ever(shared: &Shared, connection: &Connection, started: Instant) {
    let interval = shared.queue.settings().renew;
    loop {
        let pause = match renew(shared, connection, started).await {
            Ok(()) => {
                if shared.health.redis_answered(Talk::Renewals) {
                    tracing::info!("leases are being renewed again");
                }
                interval
            }
            Err(error) => {
                if shared.health.redis_failed(Talk::Renewals, chain(&error)) {
                    tracing::warn!(
                        error = chain(&error),
                        "leases could not be renewed, trying on"
                    );
                }
                (interval / 8).min(Duration::from_millis(250))
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn renew(
    shared: &Shared,
    connection: &Connection,
    started: Instant,
) -> Result<(), QueueError> {
    let settings = shared.queue.settings();
    let worker = &shared.worker;
    let all = shared.leases.all();
    let running: Vec<RunningJob> = all.iter().map(|lease| running(lease)).collect();
    // Time to return, time to be dropped, time to acknowledge.
    let patience = settings.cancel_grace * 2 + settings.lease;
    let kept: Vec<_> = all.iter().filter(|l| l.worth_renewing(patience)).collect();
    let mut arguments = arguments![
        worker.id,
        settings.lease.as_millis(),
        settings.worker_stale.as_millis(),
        started.elapsed().as_millis(),
        worker.host,
        worker.pid,
        worker.queues.join(" "),
        shared.slots,
        u8::from(shared.drain.is_cancelled()),
        serde_json::to_string(&running).unwrap_or_default(),
        serde_json::to_string(&worker.serves).unwrap_or_default(),
    ]
    .to_vec();
    for lease in &kept {
        arguments.extend(arguments![lease.id, lease.epoch]);
    }
    let asked = Instant::now();
    let renew = &shared.queue.scripts.renew;
    let answers: Vec<u8> = scripts::run(connection, renew, shared.queue.name(), &arguments).await?;
    if !kept.is_empty() {
        kill_point!("queue.renew.after");
    }
    for (lease, answer) in kept.iter().zip(answers) {
        match answer {
            0 if lease.is_ending() => {}
            0 => lose(lease, "Redis says that it is over"),
            1 => lease.renewed(asked),
            _ => {
                lease.renewed(asked);
                lease.stop(Why::Cancelled);
            }
        }
    }
    Ok(())
}

/// Ends leases by this worker's own clock, while an answer from Redis may be
/// outstanding: after that somebody else may have the job. Timeouts are kept here
/// as well, where no handler can hold them up.
async fn watch_deadlines(shared: &Shared) {
    let settings = shared.queue.settings();
    let tick = (settings.lease / 40).clamp(Duration::from_millis(5), Duration::from_millis(250));
    loop {
        tokio::time::sleep(tick).await;
        for lease in shared.leases.all() {
            if lease.since_renewed() >= settings.lease {
                lose(&lease, "it could not be renewed in time");
            } else if lease.started.elapsed() >= settings.handler_timeout {
                lease.stop(Why::TimedOut);
            }
        }
    }
}

fn lose(lease: &Lease, why: &str) {
    if !lease.is_lost() {
        tracing::warn!(job.id = %lease.id, job.name = lease.name, job.attempt = lease.attempt, reason = why, "lease lost, its handler is told to stop");
        lease.stop(Why::Lost);
    }
}

fn running(lease: &Lease) -> RunningJob {
    RunningJob {
        id: lease.id.to_string(),
        name: lease.name.clone(),
        attempt: lease.attempt,
        running_seconds: lease.started.elapsed().as_secs(),
    }
}

async fn say_goodbye(shared: &Shared, connection: &Connection) -> Result<(), QueueError> {
    let (workers, id) = (shared.queue.key("workers"), shared.worker.id.clone());
    let hash = shared.queue.key(&format!("worker:{id}"));
    connection
        .run(|mut redis| async move {
            let mut both = redis::pipe();
            both.cmd("ZREM").arg(workers).arg(id);
            both.cmd("DEL").arg(hash);
            both.query_async::<redis::Value>(&mut redis).await
        })
        .await
        .map(drop)
}
