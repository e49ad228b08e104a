//! Where the archive stands: read once, shown by `status`, judged by `check`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use walferry_catalog::{
    CatalogError, Cluster, Conn, claims, clusters, repositories, retention, server, status,
    suspects,
};
use walferry_config::{Archive, Clusters, Scheduler, Thresholds};

use crate::context::Context;

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
    /// At the rate of the last ten minutes; null when nothing moved.
    pub(crate) eta_seconds: Option<u64>,
    pub(crate) files_last_10_min: u64,
    pub(crate) verified: u64,
    pub(crate) quarantined: u64,
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
pub(crate) struct Directory {
    pub(crate) name: String,
    pub(crate) path: String,
    /// Configured. A backfill's is not, nor one that was taken out of the configuration.
    pub(crate) watched: bool,
    /// Null when no worker has scanned it lately, as all that a scan finds.
    pub(crate) files: Option<u64>,
    pub(crate) bytes: Option<u64>,
    /// Share of the file system in use, 0 to 1.
    pub(crate) used: Option<f64>,
    /// At the rate at which the backlog grew; null while it does not grow.
    pub(crate) full_in_seconds: Option<u64>,
    pub(crate) last_scan_at: Option<DateTime<Utc>>,
    pub(crate) last_arrival_at: Option<DateTime<Utc>>,
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
/// The least time after which a directory counts as not scanned.
const SCAN_SILENCE: Duration = Duration::from_secs(900);

/// What a worker's names of a backfill's directory begin with.
const BACKFILL: &str = "backfill:";

/// What the configuration says about what is read.
pub(crate) struct Expected {
    pub(crate) thresholds: Thresholds,
    pub(crate) archive: Archive,
    pub(crate) clusters: Clusters,
    pub(crate) scheduler: Scheduler,
}

impl Expected {
    pub(crate) fn of(ctx: &Context) -> anyhow::Result<Self> {
        let (thresholds, archive, clusters, scheduler) = ctx.get()?;
        Ok(Self {
            thresholds,
            archive,
            clusters,
            scheduler,
        })
    }

    /// After how long without a scan what the last one found is unknown.
    fn scan_silence(&self) -> Duration {
        SCAN_SILENCE.max(self.scheduler.archive_interval * 3)
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
    let growth = growth(now, &backlog, &rate, stuck);
    let rows = clusters::directories(conn, id).await?;
    let directories = directories(rows, cluster, expected, now, growth);
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
        quarantined: counts.quarantined,
        verified_bytes: counts.verified_bytes,
        stored_bytes: counts.verified_stored_bytes,
        reach,
        repositories,
        directories,
        suspects: suspects::list(conn, id)
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
            .collect(),
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
    let age = since(row.first_seen, now);
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

/// The cluster's directories: those that a worker has seen, and those that are configured and
/// that none has.
fn directories(
    rows: Vec<clusters::DirectoryRow>,
    cluster: &Cluster,
    expected: &Expected,
    now: DateTime<Utc>,
    growth: Option<f64>,
) -> Vec<Directory> {
    let configured = expected.clusters.get(&cluster.name);
    let is_watched = |name: &str| match configured {
        Some(cluster) => cluster.directories.iter().any(|one| one.name == name),
        // Another host's cluster.
        None => !name.starts_with(BACKFILL),
    };
    let unseen: Vec<Directory> = configured
        .map_or(&[][..], |cluster| &cluster.directories)
        .iter()
        .filter(|one| rows.iter().all(|row| row.name != one.name))
        .map(|one| Directory {
            name: one.name.clone(),
            path: one.path.display().to_string(),
            watched: true,
            files: None,
            bytes: None,
            used: None,
            full_in_seconds: None,
            last_scan_at: None,
            last_arrival_at: None,
        })
        .collect();
    rows.into_iter()
        .map(|row| {
            let watched = is_watched(&row.name);
            let scanned = row
                .last_scan_at
                .is_some_and(|at| since(at, now) <= expected.scan_silence());
            directory(row, watched, scanned, growth)
        })
        .chain(unseen)
        .collect()
}

/// `growth` in bytes per second.
fn directory(
    row: clusters::DirectoryRow,
    watched: bool,
    scanned: bool,
    growth: Option<f64>,
) -> Directory {
    let used = match (row.fs_total, row.fs_available) {
        (Some(total @ 1..), Some(available)) => Some(1.0 - available as f64 / total as f64),
        _ => None,
    };
    let full = row
        .fs_available
        .zip(growth)
        .map(|(available, growth)| (available as f64 / growth) as u64);
    Directory {
        name: row.name,
        path: row.path,
        watched,
        files: row.files.filter(|_| scanned),
        bytes: row.bytes.filter(|_| scanned),
        used: used.filter(|_| scanned),
        full_in_seconds: full.filter(|_| scanned && watched),
        last_scan_at: row.last_scan_at,
        last_arrival_at: row.last_arrival_at,
    }
}

/// Bytes per second by which the backlog has grown since its oldest file arrived; `None` while
/// it does not grow.
fn growth(
    now: DateTime<Utc>,
    backlog: &claims::Backlog,
    rate: &status::Rate,
    stuck: bool,
) -> Option<f64> {
    // What was verified lately says that files leave, but not when a cloud went away since.
    if backlog.bytes == 0 || (rate.files > 0 && !stuck) {
        return None;
    }
    // Files that came at once say nothing of what comes within the next second.
    let growing = since(backlog.oldest?, now).max(Duration::from_secs(60));
    Some(backlog.bytes as f64 / growing.as_secs_f64())
}

fn since(at: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - at).to_std().unwrap_or(Duration::ZERO)
}

fn eta(files: u64, rate: &status::Rate) -> Option<u64> {
    if files == 0 {
        return Some(0);
    }
    (rate.files > 0).then(|| files * rate.within.as_secs() / rate.files)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn check(waiting: i64, verified: u64, stuck: bool, expected: Option<f64>) {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let backlog = claims::Backlog {
            files: 10,
            bytes: 12_000,
            claimed: 0,
            oldest: Some(now - TimeDelta::seconds(waiting)),
        };
        let rate = status::Rate {
            files: verified,
            bytes: verified,
            within: RATE_WINDOW,
        };
        assert_eq!(growth(now, &backlog, &rate, stuck), expected);
    }

    #[test]
    fn a_backlog_grows_while_a_cloud_is_away_whatever_was_verified_before() {
        check(120, 7, true, Some(100.0));
        check(120, 0, true, Some(100.0));
    }

    #[test]
    fn a_backlog_that_is_worked_off_does_not_grow() {
        check(120, 7, false, None);
    }

    #[test]
    fn without_a_worker_it_grows_too_and_a_burst_is_no_rate() {
        check(120, 0, false, Some(100.0));
        check(1, 0, false, Some(200.0));
    }
}
