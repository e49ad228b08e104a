//! The archive directories: what lies there, whether anybody looks, and how long they last.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use walferry_catalog::{Cluster, claims, clusters, status};
use walferry_config::Spool;

use crate::standing::{Expected, since};

#[derive(Serialize)]
pub(crate) struct Directory {
    pub(crate) name: String,
    pub(crate) path: String,
    /// Configured. A backfill's is not, nor one that was taken out of the configuration.
    pub(crate) watched: bool,
    /// Null when no worker has scanned it lately, as all that a scan finds.
    pub(crate) files: Option<u64>,
    pub(crate) bytes: Option<u64>,
    /// How full it is, 0 to 1: its file system, or its own limit where that is nearer.
    pub(crate) used: Option<f64>,
    /// At the rate at which the backlog grew; null while it does not grow.
    pub(crate) full_in_seconds: Option<u64>,
    pub(crate) last_scan_at: Option<DateTime<Utc>>,
    /// Why the last try failed; null when it did not.
    pub(crate) scan_error: Option<String>,
    pub(crate) last_arrival_at: Option<DateTime<Utc>>,
}

/// The least time without a scan after which what the last one found is unknown; three
/// intervals of the scheduler, if that is longer.
const SCAN_SILENCE: Duration = Duration::from_secs(900);

/// What a worker's names of a backfill's directory begin with.
const BACKFILL: &str = "backfill:";

/// The cluster's directories: those that a worker has seen, and those that are configured and
/// that none has.
pub(crate) fn directories(
    rows: Vec<clusters::DirectoryRow>,
    cluster: &Cluster,
    expected: &Expected,
    now: DateTime<Utc>,
    growth: Option<f64>,
) -> Vec<Directory> {
    let silence = SCAN_SILENCE.max(expected.scheduler.archive_interval * 3);
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
            scan_error: None,
            last_arrival_at: None,
        })
        .collect();
    rows.into_iter()
        .map(|row| {
            let watched = is_watched(&row.name);
            let scanned = row.scan_error.is_none()
                && row.last_scan_at.is_some_and(|at| since(at, now) <= silence);
            directory(row, watched, scanned, &expected.spool, growth)
        })
        .chain(unseen)
        .collect()
}

/// `growth` in bytes per second.
fn directory(
    row: clusters::DirectoryRow,
    watched: bool,
    scanned: bool,
    spool: &Spool,
    growth: Option<f64>,
) -> Directory {
    let bytes = row.bytes.unwrap_or(0);
    let space = row
        .fs_total
        .filter(|total| *total > 0)
        .zip(row.fs_available);
    let used = space.map(|(total, available)| spool.used(bytes, total, available));
    // Full is where `push` refuses: at its limit, or before.
    let room = space.map(|(total, available)| spool.room(bytes, total, available));
    let full = room
        .zip(growth)
        .map(|(room, growth)| (room as f64 / growth) as u64);
    Directory {
        name: row.name,
        path: row.path,
        watched,
        files: row.files.filter(|_| scanned),
        bytes: row.bytes.filter(|_| scanned),
        used: used.filter(|_| scanned),
        full_in_seconds: full.filter(|_| scanned && watched),
        last_scan_at: row.last_scan_at,
        scan_error: row.scan_error,
        last_arrival_at: row.last_arrival_at,
    }
}

/// Bytes per second by which the backlog has grown since its oldest file arrived; `None` while
/// it does not grow.
pub(crate) fn growth(
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
            within: Duration::from_secs(600),
            last: (verified, Duration::from_secs(600)),
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
