//! Base backups, as the catalog knows them: whether they are taken, whether every cloud has
//! them, and whether the WAL is there without which they restore nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use walferry_catalog::{
    Cluster, Conn,
    bases::{self, BaseCopyState, BaseRow, RunOutcome},
};
use walferry_config::Thresholds;

use crate::{
    commands::check::{Finding, Level},
    output::duration,
};

/// What there is to say of a cluster's bases; nothing when it never had one of ours.
pub(super) async fn of(
    conn: &mut Conn,
    cluster: &Cluster,
    what: &str,
    thresholds: &Thresholds,
) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let rows = bases::list(conn, cluster.prefix.id).await?;
    let living: Vec<&BaseRow> = rows
        .iter()
        .filter(|row| has(row, BaseCopyState::Complete))
        .collect();
    if let Some(newest) = living.first() {
        findings.extend(wal(conn, cluster, what, newest, thresholds).await?);
    }
    for row in &living {
        for copy in &row.copies {
            if copy.state == BaseCopyState::Dropped {
                findings.push(Finding::new(
                    Level::Warning,
                    format!("{what}, {}", copy.repository),
                    "base-backup-behind",
                    format!(
                        "base backup {} is not there for {}: {}",
                        row.base.label,
                        duration(age(copy.since)),
                        copy.reason.as_deref().unwrap_or("the cloud did not keep up")
                    ),
                    Some("the next run of `base-backup` copies it from the other cloud; `walferry backup` does so now"),
                ));
            }
        }
    }
    let run = bases::last_run(conn, cluster.id).await?;
    if let Some(run) = run.filter(|run| run.outcome == Some(RunOutcome::Failed)) {
        findings.push(Finding::new(
            Level::Warning,
            what,
            "base-backup-failed",
            format!(
                "no base backup could be taken for {} ({} tries): {}",
                run.failed_since
                    .map_or_else(String::new, |since| duration(age(since))),
                run.failures,
                run.error.as_deref().unwrap_or("nobody said why")
            ),
            Some("`walferry backup` tries it here and now and shows how far it comes"),
        ));
    }
    if findings.is_empty()
        && let Some(newest) = living.first()
    {
        findings.push(Finding::ok(
            what,
            "base-backup",
            format!(
                "the newest, {}, ended {} ago and is complete in {}",
                newest.base.label,
                duration(age(newest.base.stopped_at)),
                complete_in(newest)
            ),
        ));
    }
    Ok(findings)
}

/// Whether any base is complete in any repository.
pub(super) async fn any(conn: &mut Conn, cluster: &Cluster) -> anyhow::Result<bool> {
    let rows = bases::list(conn, cluster.prefix.id).await?;
    Ok(rows.iter().any(|row| has(row, BaseCopyState::Complete)))
}

/// The WAL of a base that has just ended is still on its way; later it is missing.
async fn wal(
    conn: &mut Conn,
    cluster: &Cluster,
    what: &str,
    newest: &BaseRow,
    thresholds: &Thresholds,
) -> anyhow::Result<Vec<Finding>> {
    if age(newest.base.stopped_at) <= thresholds.rpo {
        return Ok(Vec::new());
    }
    let reach = bases::reach(conn, &cluster.prefix, &newest.base).await?;
    let complete = newest
        .copies
        .iter()
        .filter(|copy| copy.state == BaseCopyState::Complete);
    Ok(complete
        .filter(|copy| {
            !reach
                .iter()
                .any(|wal| wal.repository == copy.repository && wal.usable)
        })
        .map(|copy| {
            Finding::new(
                Level::Critical,
                format!("{what}, {}", copy.repository),
                "base-backup-unusable",
                format!(
                    "base backup {} restores nothing from there: its WAL from {} to {} is not verified there",
                    newest.base.label, newest.base.start_lsn, newest.base.stop_lsn
                ),
                Some("`walferry gaps` and `walferry status` say what is missing; an older base backup may still be usable, see `walferry backups`"),
            )
        })
        .collect())
}

fn has(row: &BaseRow, state: BaseCopyState) -> bool {
    row.copies.iter().any(|copy| copy.state == state)
}

fn complete_in(row: &BaseRow) -> String {
    let complete = row
        .copies
        .iter()
        .filter(|copy| copy.state == BaseCopyState::Complete);
    let names: Vec<&str> = complete.map(|copy| copy.repository.as_str()).collect();
    names.join(", ")
}

fn age(at: DateTime<Utc>) -> Duration {
    (Utc::now() - at).to_std().unwrap_or(Duration::ZERO)
}
