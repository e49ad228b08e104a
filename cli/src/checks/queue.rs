//! Redis: does it answer, does it keep what it is told, does anybody consume?

use crate::{
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
    let stats = queue.stats().await?;
    if let Some(since) = stats.paused_since {
        findings.push(Finding::new(
            Level::Warning,
            format!("queue {}", queue.name()),
            "queue-paused",
            format!("paused since {since}: no job is handed out"),
            Some("`walferry queue resume`"),
        ));
    }
    if stats.dead > 0 {
        findings.push(Finding::new(
            Level::Warning,
            format!("queue {}", queue.name()),
            "dead-letters",
            format!("{} dead letters", stats.dead),
            Some("`walferry queue ls --state dead` shows why; `walferry queue retry --all` takes them out"),
        ));
    }
    let living = workers::living(ctx, None).await?;
    findings.push(if living.is_empty() {
        Finding::new(
            Level::Critical,
            "workers",
            "no-worker",
            "no worker has given a sign of life: nothing is archived",
            Some("start `walferry-worker`; it needs the same REDIS_URL and queue names"),
        )
    } else {
        Finding::ok("workers", "workers", format!("{} alive", living.len()))
    });
    Ok(findings)
}
