//! The protected server, where a connection to it is configured: its settings, its own
//! counters, and its current position against the catalog.

use std::time::Duration;

use secrecy::SecretString;
use walferry_catalog::{Catalog, CatalogSettings, clusters, protected, status};
use walferry_config::{Clusters, Thresholds};

use crate::{
    commands::check::{Finding, Level},
    context::Context,
    output::duration,
};

/// A segment's long page header: a position right behind it means that nothing was written.
const EMPTY_SEGMENT: i64 = 40;

pub(super) async fn check(ctx: &Context) -> anyhow::Result<Vec<Finding>> {
    let (configured, thresholds) = ctx.get::<(Clusters, Thresholds)>()?;
    let mut findings = Vec::new();
    for cluster in configured.iter() {
        let what = format!("server of {}", cluster.name);
        match &cluster.connection {
            None => findings.push(Finding::new(
                Level::Unknown,
                what,
                "rpo-unknown",
                "RPO is unknown: no connection to the server is configured",
                Some("set the cluster's `connection` to a role in pg_monitor"),
            )),
            Some(url) => findings.extend(ask(ctx, &what, &cluster.name, url, &thresholds).await),
        }
    }
    Ok(findings)
}

async fn ask(
    ctx: &Context,
    what: &str,
    cluster: &str,
    url: &SecretString,
    thresholds: &Thresholds,
) -> Vec<Finding> {
    match judge(ctx, what, cluster, url, thresholds).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::new(
            Level::Unknown,
            what,
            "server-unknown",
            format!("{error:#}"),
            Some("RPO is unknown while the server cannot be asked"),
        )],
    }
}

async fn judge(
    ctx: &Context,
    what: &str,
    cluster: &str,
    url: &SecretString,
    thresholds: &Thresholds,
) -> anyhow::Result<Vec<Finding>> {
    let server = Catalog::new(CatalogSettings {
        pool_size: 1,
        ..CatalogSettings::new(url.clone(), "walferry-check")
    })?;
    let facts = protected::ask(&mut *server.get_unchecked().await?).await?;
    let mut findings = settings(what, &facts);
    let catalog = ctx.catalog()?;
    let mut conn = catalog.get().await?;
    let row = clusters::clusters(&mut conn)
        .await?
        .into_iter()
        .find(|row| row.name == cluster);
    let Some(row) = row else {
        return Ok(findings);
    };
    if let Some(known) = row.prefix.system_id
        && known.to_string() != facts.system_id
    {
        findings.push(Finding::new(
            Level::Critical,
            what,
            "other-system",
            format!(
                "the server is system {}, the archive is of system {known}",
                facts.system_id
            ),
            Some("after pg_upgrade run `walferry cluster upgrade`, which opens the next prefix"),
        ));
        return Ok(findings);
    }
    let reach = status::reach(&mut conn, &row.prefix).await?;
    let last = reach
        .iter()
        .filter(|reach| reach.repository.is_none())
        .max_by_key(|reach| reach.timeline);
    findings.push(rpo(what, &facts, last, thresholds));
    Ok(findings)
}

fn settings(what: &str, facts: &protected::Protected) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut bad = |level, code, message: String, hint: &str| {
        findings.push(Finding::new(level, what, code, message, Some(hint)));
    };
    if facts.archive_mode == "off" {
        bad(
            Level::Critical,
            "archive-off",
            "archive_mode is off: nothing is handed over".to_owned(),
            "set archive_mode = on and restart the server",
        );
    } else if facts.archiver.is_empty() || facts.archiver == "(disabled)" {
        bad(
            Level::Critical,
            "archive-off",
            "archive_command is empty".to_owned(),
            "set archive_command = 'walferry push %p'",
        );
    }
    if facts.archive_timeout == 0 {
        bad(
            Level::Warning,
            "archive-timeout",
            "archive_timeout is 0: on a quiet database a segment may stay open for ever, and with it the RPO".to_owned(),
            "set archive_timeout = 60",
        );
    }
    let failing = facts.last_failed_at.filter(|failed| {
        facts
            .last_archived_at
            .is_none_or(|archived| *failed > archived)
    });
    if let Some(failed) = failing {
        bad(
            Level::Critical,
            "archive-command-fails",
            format!(
                "its last attempt to hand over `{}` failed at {failed}",
                facts.last_failed.as_deref().unwrap_or("?")
            ),
            "the server's log has the message of `walferry push`",
        );
    }
    findings
}

/// What would be lost if the server died now: the time since the last contiguous verified
/// segment was closed, or nothing when nothing was written since.
fn rpo(
    what: &str,
    facts: &protected::Protected,
    last: Option<&status::Reach>,
    thresholds: &Thresholds,
) -> Finding {
    let closed = last.and_then(|last| last.last_mtime);
    let idle = facts
        .current_offset
        .is_some_and(|offset| offset <= EMPTY_SEGMENT)
        && facts.last_archived == last.and_then(|last| last.last).map(|name| name.to_string());
    let age = match closed {
        _ if idle => Duration::ZERO,
        Some(closed) => (facts.now - closed).to_std().unwrap_or(Duration::ZERO),
        None => {
            return Finding::new(
                Level::Critical,
                what,
                "rpo",
                "nothing of this server is verified yet",
                Some("`walferry status` shows what waits"),
            );
        }
    };
    if age > thresholds.rpo {
        Finding::new(
            Level::Critical,
            what,
            "rpo",
            format!("RPO now {}", duration(age)),
            Some("`walferry status` shows what waits and why"),
        )
    } else {
        Finding::ok(what, "rpo", format!("RPO now {}", duration(age)))
    }
}
