//! Redis: does it answer, does it keep what it is told, does anybody consume?

use walferry_queue::{Durability, JobState, Queue};

use crate::{
    checks::clock_differs,
    commands::{
        check::{Finding, Level},
        workers,
    },
    context::Context,
};

pub(super) async fn check(ctx: &Context) -> anyhow::Result<Vec<Finding>> {
    let queue = ctx.queue(None)?;
    if let Err(error) = queue.ping().await {
        return Ok(vec![Finding::new(
            Level::Critical,
            "redis",
            "redis-down",
            format!("{:#}", anyhow::Error::new(error)),
            Some("files are kept in the archive directory until it is back; is REDIS_URL right?"),
        )]);
    }
    let mut findings = vec![Finding::ok("redis", "redis", "answers")];
    if let Err(error) = queue.takes_writes().await {
        findings.push(Finding::new(
            Level::Critical,
            "redis",
            "redis-refuses-writes",
            format!("no job can be added or taken: {error}"),
            Some("files are kept in the archive directory until it takes writes again"),
        ));
    }
    match queue.durability().await {
        Ok(durability) => findings.extend(durable(&durability)),
        Err(error) => findings.push(Finding::new(
            Level::Unknown,
            "redis",
            "redis-durability",
            format!("{:#}", anyhow::Error::new(error)),
            Some("allow INFO to this user"),
        )),
    }
    if let Some(message) = clock_differs(queue.stats().await?.now) {
        findings.push(Finding::new(
            Level::Warning,
            "redis",
            "redis-clock",
            message,
            Some("set the clock that is wrong, for example with NTP; leases and delays go on by Redis's own"),
        ));
    }
    for queue in ctx.queues()? {
        findings.extend(one(&queue).await?);
    }
    let living = workers::living(ctx, None).await?;
    if !living.is_empty() {
        let alive = format!("{} alive", living.len());
        findings.push(Finding::ok("workers", "workers", alive));
    }
    Ok(findings)
}

/// Losing Redis loses time, not segments; and time is what the RPO is made of.
fn durable(durability: &Durability) -> Vec<Finding> {
    let bad = |level, message: String, hint| {
        Finding::new(level, "redis", "redis-durability", message, Some(hint))
    };
    let mut findings = Vec::new();
    match (durability.append_only, durability.written) {
        (Some(true), Some(true)) => {}
        (Some(false), _) => findings.push(bad(
            Level::Warning,
            "appendonly is off: a restart forgets every job".to_owned(),
            "set appendonly yes",
        )),
        (_, Some(false)) => findings.push(bad(
            Level::Warning,
            "the last write to its append-only file failed".to_owned(),
            "look at Redis's log and its disk",
        )),
        _ => findings.push(bad(
            Level::Unknown,
            "it does not say whether it keeps an append-only file".to_owned(),
            "see to it that the service keeps one (appendonly yes)",
        )),
    }
    match durability.eviction.as_deref() {
        Some("noeviction") => {}
        Some(policy) => findings.push(bad(
            Level::Warning,
            format!("maxmemory-policy is {policy}: with its memory full it drops jobs in silence"),
            "set maxmemory-policy noeviction",
        )),
        None => findings.push(bad(
            Level::Unknown,
            "it does not say what it drops when its memory is full".to_owned(),
            "see to it that it drops nothing (maxmemory-policy noeviction)",
        )),
    }
    findings
}

/// Delayed jobs that are looked at: the next to run.
const LOOKED_AT: usize = 100;

async fn one(queue: &Queue) -> anyhow::Result<Vec<Finding>> {
    let name = queue.name();
    let what = format!("queue {name}");
    let mut findings = Vec::new();
    let stats = queue.stats().await?;
    if let Some(since) = stats.paused_since {
        findings.push(Finding::new(
            Level::Warning,
            what.clone(),
            "queue-paused",
            format!("paused since {since}: no job is handed out"),
            Some(&format!("`walferry queue resume -Q {name}`")),
        ));
    }
    if stats.dead > 0 {
        findings.push(Finding::new(
            Level::Warning,
            what.clone(),
            "dead-letters",
            format!("{} dead letters", stats.dead),
            Some(&format!(
                "`walferry queue ls --state dead -Q {name}` shows why; `walferry queue retry --all -Q {name}` takes them out"
            )),
        ));
    }
    findings.extend(failing(queue).await?);
    if stats.unknown > 0 {
        findings.push(Finding::new(
            Level::Warning,
            what.clone(),
            "unknown-jobs",
            format!("{} jobs that no worker here knows: a newer version put them in", stats.unknown),
            Some(&format!(
                "start workers of that version; `walferry queue ls --state delayed -Q {name}` shows which"
            )),
        ));
    }
    for key in &stats.aside {
        findings.push(Finding::new(
            Level::Warning,
            what.clone(),
            "queue-aside",
            format!("a key of the queue held something that is not the queue's; it is `{key}` now"),
            Some("does another program use this Redis database? delete that key when it is needed no more"),
        ));
    }
    if queue.workers().await?.is_empty() {
        findings.push(Finding::new(
            Level::Critical,
            what,
            "no-worker",
            "no worker that serves it has given a sign of life: its jobs wait",
            Some("start `walferry-worker`; it needs the same REDIS_URL and queue names"),
        ));
    }
    Ok(findings)
}

/// Jobs between two attempts: hours go by before the last one makes a dead letter of them.
async fn failing(queue: &Queue) -> anyhow::Result<Option<Finding>> {
    let waiting = queue.list(JobState::Delayed, LOOKED_AT).await?;
    let failed = waiting.iter().filter(|job| job.attempts > 0);
    let Some((job, error)) = failed
        .clone()
        .find_map(|job| Some((job, job.error.as_ref()?)))
    else {
        return Ok(None);
    };
    Ok(Some(Finding::new(
        Level::Warning,
        format!("queue {}", queue.name()),
        "jobs-failing",
        format!(
            "{} jobs failed and wait for their next attempt, such as {} `{}` after attempt {} of {}: {error}",
            failed.count(),
            job.name,
            job.id,
            job.attempts,
            job.max_attempts
        ),
        Some(&format!(
            "`walferry queue show {} -Q {}`, and the worker's log",
            job.id,
            queue.name()
        )),
    )))
}
