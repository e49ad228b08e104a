//! What the catalog knows, held against the thresholds.

use std::time::Duration;

use chrono::Utc;
use walferry_catalog::{clusters, events, labels, status};
use walferry_config::{Archive, Thresholds};

use crate::{
    commands::check::{Finding, Level},
    context::Context,
    output::duration,
    standing::{self, Standing},
};

pub(super) async fn check(ctx: &Context) -> anyhow::Result<Vec<Finding>> {
    let (thresholds, archive) = ctx.get::<(Thresholds, Archive)>()?;
    let catalog = ctx.catalog()?;
    let mut conn = catalog.get().await?;
    let mut findings = Vec::new();
    for cluster in clusters::clusters(&mut conn).await? {
        let what = format!("cluster {}", cluster.name);
        let standing = standing::read(
            &mut conn,
            &cluster,
            thresholds.failures_window,
            archive.not_yet,
        )
        .await?;
        let before = findings.len();
        behind(&mut findings, &what, &standing, &archive);
        files(&mut findings, &what, &standing);
        waiting(&mut findings, &what, &standing, &thresholds);
        for conflict in status::conflicts(&mut conn, Some(cluster.id)).await? {
            findings.push(Finding::new(
                Level::Critical,
                format!("{what}, {}", conflict.repository),
                status::OTHER_CONTENT,
                conflict.error,
                None,
            ));
        }
        for gap in status::gaps(&mut conn, &cluster.prefix).await? {
            if gap.kind != status::GapKind::NotVerified {
                findings.push(Finding::new(
                    Level::Critical,
                    what.clone(),
                    "gap",
                    format!("{} segments from {} to {} are missing: no restore crosses them", gap.segments, gap.first, gap.last),
                    Some("`walferry gaps`; look for them in pg_wal and hand them over, or take a new base backup"),
                ));
            }
        }
        if labels::labels(&mut conn, cluster.prefix.id)
            .await?
            .is_empty()
        {
            findings.push(Finding::new(
                Level::Warning,
                what.clone(),
                "no-base-backup",
                "no base backup is known: retention follows the age rule alone, and the window is not proven",
                Some("take one with pg_basebackup; its label is archived by itself"),
            ));
        }
        if findings.len() == before {
            findings.push(Finding::ok(
                what,
                "archive",
                "no failures, no gaps, nothing behind",
            ));
        }
    }
    for event in events::recent(&mut conn, thresholds.failures_window).await? {
        let level = match event.severity {
            events::Severity::Critical => Level::Critical,
            events::Severity::Warning => Level::Warning,
            events::Severity::Info => continue,
        };
        findings.push(Finding::new(
            level,
            event.code,
            "event",
            event.message,
            None,
        ));
    }
    Ok(findings)
}

fn behind(findings: &mut Vec<Finding>, what: &str, standing: &Standing, archive: &Archive) {
    for repository in &standing.repositories {
        if repository.due == 0 && repository.breaker != "open" {
            continue;
        }
        if repository.cause.is_none() && repository.breaker == "closed" {
            // Work under way, and no complaint.
            continue;
        }
        let since = repository.behind_since.map_or(String::new(), |since| {
            let age = (Utc::now() - since).to_std().unwrap_or(Duration::ZERO);
            format!(" for {}", duration(age))
        });
        findings.push(Finding::new(
            Level::Critical,
            format!("{what}, {}", repository.repository),
            "cloud-behind",
            format!(
                "behind by {} files{since}: {}",
                repository.due,
                repository
                    .last_error
                    .as_deref()
                    .or(repository.cause.as_deref())
                    .unwrap_or("not answering")
            ),
            Some(
                "the other repository goes on; what is missing is copied by itself when it is back",
            ),
        ));
        if repository.breaker == "open" && archive.delete_after_one_copy_above.is_none() {
            findings.push(Finding::new(
                Level::Warning,
                format!("{what}, {}", repository.repository),
                "directory-grows",
                "while it is down every segment stays in the archive directory, which fills up",
                Some("archive.delete_after_one_copy_above allows deletion after one verified copy above a share of the disk"),
            ));
        }
    }
}

fn files(findings: &mut Vec<Finding>, what: &str, standing: &Standing) {
    for suspect in standing.suspects.iter().filter(|suspect| suspect.critical) {
        findings.push(Finding::new(
            Level::Critical,
            what,
            "quarantined",
            format!(
                "`{}` in `{}` is not archived: {}",
                suspect.name, suspect.directory, suspect.reason
            ),
            Some("`walferry quarantine move NAME` puts it aside"),
        ));
    }
    for file in &standing.troubled {
        findings.push(Finding::new(
            Level::Critical,
            what,
            "troubled",
            file.clone(),
            Some("it is tried again, alone and last; see the workers' log"),
        ));
    }
    for failure in &standing.failures {
        findings.push(Finding::new(
            Level::Warning,
            what,
            "failures",
            format!(
                "{} files failed ({}): {}",
                failure.files, failure.cause, failure.example
            ),
            None,
        ));
    }
}

fn waiting(findings: &mut Vec<Finding>, what: &str, standing: &Standing, thresholds: &Thresholds) {
    let age = |at: chrono::DateTime<Utc>| (Utc::now() - at).to_std().unwrap_or(Duration::ZERO);
    if let Some(oldest) = standing
        .oldest_waiting
        .map(age)
        .filter(|age| *age > thresholds.rpo)
    {
        findings.push(Finding::new(
            Level::Critical,
            what,
            "rpo",
            format!(
                "{} files wait, the oldest for {}",
                standing.backlog_files,
                duration(oldest)
            ),
            Some("`walferry status` shows which cloud is behind and whether workers live"),
        ));
    }
    for directory in &standing.directories {
        if directory
            .used
            .is_some_and(|used| used > thresholds.directory_use.get())
        {
            findings.push(Finding::new(
                Level::Critical,
                format!("directory {}", directory.path),
                "directory-full",
                format!("its file system is {:.0} % full", directory.used.unwrap_or(0.0) * 100.0),
                Some("nothing is dropped: `push` refuses at its limit and PostgreSQL keeps the segments"),
            ));
        }
        let arrival = directory.last_arrival_at.map(age);
        if arrival.is_none_or(|age| age > thresholds.handover_silence) {
            findings.push(Finding::new(
                Level::Unknown,
                format!("directory {}", directory.path),
                "silence",
                arrival.map_or_else(
                    || "nothing was ever handed over".to_owned(),
                    |age| format!("nothing was handed over for {}", duration(age)),
                ),
                Some("an idle database and a broken archive_command look alike from here; configure the cluster's connection to tell them apart"),
            ));
        }
    }
}
