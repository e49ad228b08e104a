//! The protected server, where a connection to it is configured: its settings, its own
//! counters, and its current position against the catalog.

use secrecy::SecretString;
use walferry_catalog::{
    clusters,
    protected::{Protected, Rpo, Server},
    status,
};
use walferry_config::{Clusters, Connections, Thresholds};

use super::Well;
use crate::{
    commands::check::{Finding, Level},
    context::Context,
    output::duration,
};

pub(super) async fn check(ctx: &Context, well: &mut Well) -> anyhow::Result<Vec<Finding>> {
    let (configured, connections, thresholds) = ctx.get::<(Clusters, Connections, Thresholds)>()?;
    let mut findings = Vec::new();
    for cluster in configured.iter() {
        let what = format!("server of {}", cluster.name);
        match connections.get(&cluster.name) {
            None => findings.push(Finding::new(
                Level::Unknown,
                what,
                "rpo-unknown",
                "RPO is unknown: no connection to the server is configured",
                Some("set the cluster's `connection` to a role in pg_monitor"),
            )),
            Some(url) => {
                let found = ask(ctx, &what, &cluster.name, url, &thresholds).await;
                let known = found.iter().any(|one| one.code == "rpo");
                if known && found.iter().all(|one| one.level <= Level::Warning) {
                    well.insert(cluster.name.clone());
                }
                findings.extend(found);
            }
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
    let facts = Server::new(url, "walferry-check")?.ask().await?;
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
    let reach = status::reach(&mut conn, &row.prefix).await?;
    findings.push(rpo(
        what,
        &facts,
        facts.rpo(&row.prefix, &reach),
        thresholds,
    ));
    Ok(findings)
}

fn settings(what: &str, facts: &Protected) -> Vec<Finding> {
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

fn rpo(what: &str, facts: &Protected, rpo: Rpo, thresholds: &Thresholds) -> Finding {
    match rpo {
        Rpo::Age(age) if age <= thresholds.rpo => {
            Finding::ok(what, "rpo", format!("RPO now {}", duration(age)))
        }
        Rpo::Age(age) => Finding::new(
            Level::Critical,
            what,
            "rpo",
            format!("RPO now {}", duration(age)),
            Some("`walferry status` shows what waits and why"),
        ),
        Rpo::NothingVerified => Finding::new(
            Level::Critical,
            what,
            "rpo",
            "nothing of this server is verified yet",
            Some("`walferry status` shows what waits"),
        ),
        Rpo::OtherSystem(known) => Finding::new(
            Level::Critical,
            what,
            "other-system",
            format!(
                "the server is system {}, the archive is of system {known}",
                facts.system_id
            ),
            Some("after pg_upgrade run `walferry cluster upgrade`, which opens the next prefix"),
        ),
    }
}
