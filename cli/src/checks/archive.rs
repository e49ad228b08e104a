//! What the catalog knows, held against the thresholds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use walferry_catalog::{Cluster, Conn, clusters, events, labels, repositories, server, status};
use walferry_config::{Archive, Repositories, Retention, Thresholds};

use super::{Well, bases};
use crate::{
    commands::check::{Finding, Level},
    context::Context,
    output::duration,
    standing::{self, Expected, Standing},
};

pub(super) async fn check(ctx: &Context, well: &Well) -> anyhow::Result<Vec<Finding>> {
    let expected = Expected::of(ctx)?;
    let window = ctx.get::<Retention>()?.window();
    let catalog = ctx.catalog()?;
    let mut conn = catalog.get().await?;
    let mut findings = Vec::new();
    let clusters = clusters::clusters(&mut conn).await?;
    for cluster in &clusters {
        let what = format!("cluster {}", cluster.name);
        let standing = standing::read(&mut conn, cluster, &expected).await?;
        let before = findings.len();
        behind(&mut findings, &what, &standing, &expected.archive);
        files(&mut findings, &what, &standing);
        for conflict in status::conflicts(&mut conn, Some(cluster.id)).await? {
            findings.push(Finding::new(
                Level::Critical,
                format!("{what}, {}", conflict.repository),
                status::OTHER_CONTENT,
                conflict.error,
                None,
            ));
        }
        waiting(&mut findings, &what, &standing, &expected.thresholds);
        arriving(&mut findings, &standing, &expected.thresholds, well);
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
        let labels = labels::labels(&mut conn, cluster.prefix.id).await?;
        let known = !labels.is_empty() || bases::any(&mut conn, cluster).await?;
        findings.extend(if !known {
            Some(Finding::new(
                Level::Warning,
                what.clone(),
                "no-base-backup",
                "no base backup is known: retention follows the age rule alone, and the window is not proven",
                Some("`walferry backup` takes one; one by pg_basebackup is known from its label, which is archived by itself"),
            ))
        } else {
            proof(&what, cluster, &standing, window)
        });
        let of_bases = bases::of(&mut conn, cluster, &what, &expected.thresholds).await?;
        let (well, bad): (Vec<_>, Vec<_>) = of_bases
            .into_iter()
            .partition(|finding| finding.level == Level::Ok);
        findings.extend(bad);
        if findings.len() == before {
            findings.push(Finding::ok(
                what,
                "archive",
                "no failures, no gaps, nothing behind",
            ));
        }
        findings.extend(well);
    }
    for configured in expected.clusters.iter() {
        if clusters.iter().all(|known| known.name != configured.name) {
            findings.push(never_seen(format!("cluster {}", configured.name)));
        }
    }
    findings.extend(repositories(ctx, &mut conn).await?);
    for event in events::recent(&mut conn, expected.thresholds.failures_window).await? {
        let level = match event.severity {
            events::Severity::Critical => Level::Critical,
            events::Severity::Warning => Level::Warning,
            events::Severity::Info => continue,
        };
        let cluster = clusters
            .iter()
            .find(|cluster| Some(cluster.id) == event.cluster);
        let what = cluster.map_or("catalog".to_owned(), |cluster| {
            format!("cluster {}", cluster.name)
        });
        findings.push(Finding::new(level, what, event.code, event.message, None));
    }
    Ok(findings)
}

/// Retention lets WAL go by its age alone, although base backups are known.
fn proof(what: &str, cluster: &Cluster, standing: &Standing, window: Duration) -> Option<Finding> {
    let run = standing.retention.as_ref()?;
    // An archive that is younger than its window cannot have a base from before it.
    let old = age(cluster.prefix.opened_at) > window || run.planned > 0;
    (run.window_proven == Some(false) && old).then(|| {
        Finding::new(
            Level::Warning,
            what,
            "window-not-proven",
            "no base backup from before the retention window is known with its WAL complete: not every moment of the window is proven to be restorable",
            Some("`walferry retention plan` says what is missing; `walferry retention hold` stops deletion"),
        )
    })
}

/// The repositories of the configuration, as the workers see them.
async fn repositories(ctx: &Context, conn: &mut Conn) -> anyhow::Result<Vec<Finding>> {
    // A mistake there is told by the check of the repositories themselves.
    let Ok(configured) = ctx.get::<Repositories>() else {
        return Ok(Vec::new());
    };
    let now = server::now(conn).await?;
    let rows = repositories::list(conn).await?;
    Ok(configured
        .iter()
        .filter_map(|repository| {
            let what = format!("repository {}", repository.name);
            match rows.iter().find(|row| row.name == repository.name) {
                None => Some(never_seen(what)),
                Some(row) if standing::is_silent(row, now) => Some(Finding::new(
                    Level::Unknown,
                    what,
                    "cloud-unknown",
                    "no worker has reported on it within the last minute",
                    Some("is `walferry-worker` running, and does it reach the catalog?"),
                )),
                Some(_) => None,
            }
        })
        .collect())
}

fn never_seen(what: String) -> Finding {
    Finding::new(
        Level::Unknown,
        what,
        "never-seen",
        "configured here, and no worker has ever reported it",
        Some("start `walferry-worker` with this configuration, or start it anew"),
    )
}

fn behind(findings: &mut Vec<Finding>, what: &str, standing: &Standing, archive: &Archive) {
    for repository in &standing.repositories {
        if repository.due == 0 && repository.breaker != "open" {
            continue;
        }
        if repository.cause.is_none() && matches!(&*repository.breaker, "closed" | "unknown") {
            // Work under way, or nobody who works; no complaint.
            continue;
        }
        let since = repository.behind_since.map_or(String::new(), |since| {
            format!(" for {}", duration(age(since)))
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
    let mut suspects = standing.suspects.iter().filter(|suspect| suspect.critical);
    for suspect in suspects.by_ref().take(standing::NAMED) {
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
    let more = suspects.count();
    if more > 0 {
        findings.push(Finding::new(
            Level::Critical,
            what,
            "quarantined",
            format!("{more} more files are not archived"),
            Some("`walferry quarantine ls` names all"),
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
}

fn arriving(
    findings: &mut Vec<Finding>,
    standing: &Standing,
    thresholds: &Thresholds,
    well: &Well,
) {
    for directory in standing.directories.iter().filter(|one| one.watched) {
        let what = format!("directory {}", directory.path);
        if let Some(error) = &directory.scan_error {
            findings.push(Finding::new(
                Level::Critical,
                what,
                "not-scanned",
                format!("the last scan of it failed, so what lies in it waits: {error}"),
                Some("it is tried again by itself; nothing in it is given up"),
            ));
            continue;
        }
        let Some(used) = directory.used else {
            let scanned = directory.last_scan_at.map_or("never".to_owned(), |at| {
                format!("{} ago", duration(age(at)))
            });
            findings.push(Finding::new(
                Level::Unknown,
                what,
                "not-scanned",
                format!("last scanned by a worker: {scanned}; what lies in it is unknown"),
                Some("is `walferry-worker` running where it is mounted, and `walferry-scheduler`?"),
            ));
            continue;
        };
        if used > thresholds.directory_use.get() {
            findings.push(Finding::new(
                Level::Critical,
                what.clone(),
                "directory-full",
                format!("it is {:.0} % full, of its file system or of `spool.limit`", used * 100.0),
                Some("nothing is dropped: `push` refuses at its limit and PostgreSQL keeps the segments"),
            ));
        }
        let arrival = directory.last_arrival_at.map(age);
        let silent = arrival.is_none_or(|age| age > thresholds.handover_silence);
        if silent && !well.contains(&standing.cluster) {
            findings.push(Finding::new(
                Level::Unknown,
                what,
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

fn age(at: DateTime<Utc>) -> Duration {
    (Utc::now() - at).to_std().unwrap_or(Duration::ZERO)
}
