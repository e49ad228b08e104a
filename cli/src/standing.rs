//! Where the archive stands: read once, shown by `status`, judged by `check`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use walferry_catalog::{
    CatalogError, Cluster, Conn, claims, clusters, repositories, server, status, suspects,
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
    /// `closed` answers, `open` does not, `half-open` is being tried, `unknown` was never asked.
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

const RATE_WINDOW: Duration = Duration::from_secs(600);

/// Reads one cluster.
pub(crate) async fn read(
    conn: &mut Conn,
    cluster: &Cluster,
    failures_window: Duration,
    not_yet: Duration,
) -> Result<Standing, CatalogError> {
    let now = server::now(conn).await?;
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
    let directories = clusters::directories(conn, id)
        .await?
        .into_iter()
        .map(|row| directory(row, now, &backlog, &rate))
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
        quarantined: counts.quarantined,
        verified_bytes: counts.verified_bytes,
        stored_bytes: counts.verified_stored_bytes,
        reach,
        repositories: breakers
            .into_iter()
            .map(|row| repository(row, &due))
            .collect(),
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

fn repository(row: repositories::RepositoryRow, due: &[status::RepositoryStatus]) -> Repository {
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

fn directory(
    row: clusters::DirectoryRow,
    now: DateTime<Utc>,
    backlog: &claims::Backlog,
    rate: &status::Rate,
) -> Directory {
    let used = match (row.fs_total, row.fs_available) {
        (Some(total @ 1..), Some(available)) => Some(1.0 - available as f64 / total as f64),
        _ => None,
    };
    Directory {
        name: row.name,
        path: row.path,
        files: row.files,
        bytes: row.bytes,
        used,
        full_in_seconds: full_in(row.fs_available, now, backlog, rate),
        last_scan_at: row.last_scan_at,
        last_arrival_at: row.last_arrival_at,
    }
}

/// How long until the directory is full if files go on to arrive as they did while the
/// backlog grew, and none leaves.
fn full_in(
    available: Option<u64>,
    now: DateTime<Utc>,
    backlog: &claims::Backlog,
    rate: &status::Rate,
) -> Option<u64> {
    let growing_for = u64::try_from((now - backlog.oldest?).num_seconds()).ok()?;
    if rate.files > 0 || growing_for == 0 || backlog.bytes == 0 {
        return None;
    }
    let seconds = available? as f64 / (backlog.bytes as f64 / growing_for as f64);
    Some(seconds as u64)
}

fn eta(files: u64, rate: &status::Rate) -> Option<u64> {
    if files == 0 {
        return Some(0);
    }
    (rate.files > 0).then(|| files * rate.within.as_secs() / rate.files)
}
