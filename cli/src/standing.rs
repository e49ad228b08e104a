//! Where the archive stands: read once, shown by `status`, judged by `check`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use walferry_catalog::{
    CatalogError, Cluster, Conn, claims, clusters, repositories, retention, server, status,
    suspects,
};
use walferry_config::{Archive, Clusters, Connections, Scheduler, Spool, Thresholds};

use crate::{
    context::Context,
    fill::{self, Directory},
};

/// Everything that the catalog knows about one cluster.
#[derive(Serialize)]
pub(crate) struct Standing {
    pub(crate) cluster: String,
    pub(crate) prefix: String,
    pub(crate) system_id: Option<String>,
    /// Files that are not VERIFIED in every required repository.
    pub(crate) backlog_files: u64,
    pub(crate) backlog_bytes: u64,
    /// When the oldest of them was handed over.
    pub(crate) oldest_waiting: Option<DateTime<Utc>>,
    /// At the rate of the last hundred files that were verified in the last ten minutes; null
    /// when nothing was.
    pub(crate) eta_seconds: Option<u64>,
    pub(crate) files_last_10_min: u64,
    pub(crate) verified: u64,
    /// Of `suspects`, those that are no "not yet" any more.
    pub(crate) quarantined: usize,
    pub(crate) verified_bytes: u64,
    pub(crate) stored_bytes: u64,
    /// Per timeline and repository; `all` is what every required repository has.
    pub(crate) reach: Vec<Reach>,
    pub(crate) repositories: Vec<Repository>,
    pub(crate) directories: Vec<Directory>,
    pub(crate) suspects: Vec<Suspect>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) troubled: Vec<String>,
    /// Null until retention has run.
    pub(crate) retention: Option<Retention>,
    /// Upper bound of what would be lost now, in seconds; null is unknown, never good.
    pub(crate) rpo_seconds: Option<u64>,
}

#[derive(Serialize)]
pub(crate) struct Reach {
    pub(crate) timeline: u32,
    pub(crate) repository: String,
    pub(crate) from: String,
    pub(crate) last: Option<String>,
    pub(crate) last_closed_at: Option<DateTime<Utc>>,
    pub(crate) segments: u64,
}

#[derive(Serialize)]
pub(crate) struct Repository {
    pub(crate) repository: String,
    /// `closed` answers, `open` does not, `half-open` is being tried, `unknown`: no worker has
    /// reported on it within the last minute.
    pub(crate) breaker: String,
    pub(crate) since: Option<DateTime<Utc>>,
    pub(crate) due: u64,
    pub(crate) due_bytes: u64,
    pub(crate) behind_since: Option<DateTime<Utc>>,
    pub(crate) next_try_at: Option<DateTime<Utc>>,
    pub(crate) cause: Option<String>,
    pub(crate) last_error: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Suspect {
    pub(crate) directory: String,
    pub(crate) name: String,
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) critical: bool,
    pub(crate) first_seen: DateTime<Utc>,
}

#[derive(Serialize)]
pub(crate) struct Failure {
    pub(crate) repository: Option<String>,
    pub(crate) cause: String,
    pub(crate) files: u64,
    pub(crate) example: String,
}

/// The last retention run.
#[derive(Serialize)]
pub(crate) struct Retention {
    pub(crate) at: DateTime<Utc>,
    /// Objects that were to go.
    pub(crate) planned: u64,
    /// Whether a base backup from before the window is known; null while it runs, or if it died.
    pub(crate) window_proven: Option<bool>,
    pub(crate) outcome: Option<String>,
}

const RATE_WINDOW: Duration = Duration::from_secs(600);
/// Workers report on each repository every 10 s; after this long without, what they said last
/// is no answer any more.
const REPORT_SILENCE: Duration = Duration::from_secs(60);

/// So many suspicious files are named; the others are counted, so that 100,000 of them do not
/// hide everything else.
pub(crate) const NAMED: usize = 20;

/// What the configuration says about what is read.
pub(crate) struct Expected {
    pub(crate) thresholds: Thresholds,
    pub(crate) archive: Archive,
    pub(crate) clusters: Clusters,
    pub(crate) connections: Connections,
    pub(crate) scheduler: Scheduler,
    pub(crate) spool: Spool,
}

impl Expected {
    pub(crate) fn of(ctx: &Context) -> anyhow::Result<Self> {
        let (thresholds, archive, clusters, connections, scheduler, spool) = ctx.get()?;
        Ok(Self {
            thresholds,
            archive,
            clusters,
            connections,
            scheduler,
            spool,
        })
    }
}

/// Reads one cluster.
pub(crate) async fn read(
    conn: &mut Conn,
    cluster: &Cluster,
    expected: &Expected,
) -> Result<Standing, CatalogError> {
    let now = server::now(conn).await?;
    let failures_window = expected.thresholds.failures_window;
    let not_yet = expected.archive.not_yet;
    let id = Some(cluster.id);
    let backlog = claims::backlog(conn, id).await?;
    let rate = status::rate(conn, id, RATE_WINDOW).await?;
    let counts = status::counts(conn, id).await?;
    let breakers = repositories::list(conn).await?;
    let due = status::repositories(conn, id).await?;
    let reach: Vec<Reach> = status::reach(conn, &cluster.prefix)
        .await?
        .into_iter()
        .map(|reach| Reach {
            timeline: reach.timeline.get(),
            repository: reach
                .repository
                .map_or_else(|| "all".to_owned(), |name| name.to_string()),
            from: reach.from.to_string(),
            last: reach.last.map(|last| last.to_string()),
            last_closed_at: reach.last_mtime,
            segments: reach.segments,
        })
        .collect();
    let repositories: Vec<Repository> = breakers
        .into_iter()
        .map(|row| repository(row, &due, now))
        .collect();
    // Nothing leaves a directory while a cloud that has to have it is away.
    let stuck = repositories
        .iter()
        .any(|repository| repository.due > 0 && repository.breaker != "closed");
    let growth = fill::growth(now, &backlog, &rate, stuck);
    let rows = clusters::directories(conn, id).await?;
    let directories = fill::directories(rows, cluster, expected, now, growth);
    let suspects: Vec<Suspect> = suspects::list(conn, id)
        .await?
        .into_iter()
        .map(|row| Suspect {
            critical: is_critical(&row, now, not_yet),
            directory: row.directory_path,
            name: row.name,
            code: row.reason_code,
            reason: row.reason,
            first_seen: row.first_seen,
        })
        .collect();
    Ok(Standing {
        cluster: cluster.name.clone(),
        prefix: cluster.prefix.key_prefix.to_string(),
        system_id: cluster.prefix.system_id.map(|id| id.to_string()),
        backlog_files: backlog.files,
        backlog_bytes: backlog.bytes,
        oldest_waiting: backlog.oldest,
        eta_seconds: eta(backlog.files, &rate),
        files_last_10_min: rate.files,
        verified: counts.verified,
        quarantined: suspects.iter().filter(|suspect| suspect.critical).count(),
        verified_bytes: counts.verified_bytes,
        stored_bytes: counts.verified_stored_bytes,
        reach,
        repositories,
        directories,
        suspects,
        failures: status::failures(conn, id, failures_window)
            .await?
            .into_iter()
            .map(|failure| Failure {
                repository: failure.repository.map(|name| name.to_string()),
                cause: failure.cause,
                files: failure.files,
                example: failure.example,
            })
            .collect(),
        troubled: status::troubled(conn, id)
            .await?
            .into_iter()
            .map(|file| {
                format!(
                    "{} ({:?}, {} crashes{})",
                    file.file,
                    file.trouble,
                    file.crashes,
                    file.last_error
                        .map_or(String::new(), |error| format!(": {error}"))
                )
            })
            .collect(),
        retention: retention::last_run(conn, cluster.id)
            .await?
            .map(|run| Retention {
                at: run.started_at,
                planned: run.planned,
                window_proven: run.finished_at.map(|_| run.window_proven),
                outcome: run.outcome,
            }),
        // Known only to who can ask the protected server.
        rpo_seconds: None,
    })
}

/// "Not yet" for a while, since somebody's `cp` may be at work; an error after that.
pub(crate) fn is_critical(
    row: &suspects::SuspectRow,
    now: DateTime<Utc>,
    not_yet: Duration,
) -> bool {
    let age = (now - row.first_seen).to_std().unwrap_or(Duration::ZERO);
    row.critical || age > not_yet
}

/// Whether no worker has said lately how a repository does.
pub(crate) fn is_silent(row: &repositories::RepositoryRow, now: DateTime<Utc>) -> bool {
    row.reported_at
        .is_none_or(|at| since(at, now) > REPORT_SILENCE)
}

fn repository(
    mut row: repositories::RepositoryRow,
    due: &[status::RepositoryStatus],
    now: DateTime<Utc>,
) -> Repository {
    if is_silent(&row, now) {
        row.state = repositories::BreakerState::Unknown;
        row.since = None;
        row.cause = None;
    }
    let behind = due.iter().find(|status| status.repository == row.name);
    Repository {
        repository: row.name.to_string(),
        breaker: row.state.as_str().to_owned(),
        since: row.since,
        due: behind.map_or(0, |behind| behind.due),
        due_bytes: behind.map_or(0, |behind| behind.due_bytes),
        behind_since: behind.and_then(|behind| behind.behind_since),
        next_try_at: behind.and_then(|behind| behind.next_try_at),
        cause: row
            .cause
            .or_else(|| behind.and_then(|behind| behind.cause.clone())),
        last_error: behind
            .and_then(|behind| behind.last_error.clone())
            .or(row.last_error),
    }
}

pub(crate) fn since(at: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - at).to_std().unwrap_or(Duration::ZERO)
}

fn eta(files: u64, rate: &status::Rate) -> Option<u64> {
    if files == 0 {
        return Some(0);
    }
    let (last, took) = rate.last;
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    (last > 0).then(|| files.saturating_mul(millis) / last / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the window is: a drain that began ten seconds ago is measured by those.
    #[test]
    fn the_eta_follows_the_last_files_and_not_the_window() {
        let rate = |last: u64, took: f64| status::Rate {
            files: last,
            bytes: last,
            within: Duration::from_secs(600),
            last: (last, Duration::from_secs_f64(took)),
        };
        assert_eq!(eta(800, &rate(100, 5.0)), Some(40));
        assert_eq!(eta(800, &rate(4, 0.4)), Some(80));
        assert_eq!(eta(0, &rate(0, 0.0)), Some(0));
        assert_eq!(eta(800, &rate(0, 0.0)), None);
    }
}
