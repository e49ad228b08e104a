//! Wakes somebody when PostgreSQL has handed over a file.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::names;

/// How often the directory is looked at besides: it may have been removed and come back, and
/// some file systems (NFS) and an exhausted inotify limit tell nothing.
const LOOK: Duration = Duration::from_secs(2);

/// A watch on an archive directory, present or not.
///
/// It is a hint that saves time; the scheduler's tick is the safety net.
#[derive(Debug)]
pub struct Watch {
    arrived: Arc<Notify>,
}

impl Watch {
    /// Watches `path` in a task of its own, until `shutdown` or until the watch is dropped.
    ///
    /// Files that lie there already count as arrived. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(path: impl Into<PathBuf>, shutdown: CancellationToken) -> Self {
        let arrived = Arc::new(Notify::new());
        let (path, weak) = (path.into(), Arc::downgrade(&arrived));
        tokio::spawn(async move {
            let mut watching: Option<(Identity, Option<RecommendedWatcher>)> = None;
            loop {
                let Some(arrived) = weak.upgrade() else {
                    return;
                };
                look(&path, &mut watching, &arrived);
                drop(arrived);
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        });
        Self { arrived }
    }

    /// Returns when something has arrived since the last call; a burst is one arrival.
    ///
    /// Cancel-safe.
    pub async fn changed(&mut self) {
        self.arrived.notified().await;
    }
}

/// Which directory lies at the path, and when a name in it last changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    dev: u64,
    ino: u64,
    changed: (i64, i64),
}

fn look(
    path: &Path,
    watching: &mut Option<(Identity, Option<RecommendedWatcher>)>,
    arrived: &Arc<Notify>,
) {
    let Ok(found) = std::fs::metadata(path) else {
        // Removed, or not mounted yet: the watch on the old one hears nothing any more. That
        // it went is an event: whoever scans it now says so.
        if watching.take().is_some() {
            arrived.notify_one();
        }
        return;
    };
    let found = Identity {
        dev: found.dev(),
        ino: found.ino(),
        changed: (found.mtime(), found.mtime_nsec()),
    };
    match watching {
        Some((known, watcher)) if (known.dev, known.ino) == (found.dev, found.ino) => {
            // With inotify this is an event that has been told already.
            if watcher.is_none() && *known != found {
                arrived.notify_one();
            }
            *known = found;
        }
        _ => {
            let watcher = match watch(path, arrived) {
                Ok(watcher) => Some(watcher),
                Err(error) => {
                    tracing::warn!(
                        directory.path = %path.display(),
                        error = &error as &dyn std::error::Error,
                        "the archive directory cannot be watched; it is looked at every 2 s. \
                         HINT: raise fs.inotify.max_user_watches or max_user_instances"
                    );
                    None
                }
            };
            *watching = Some((found, watcher));
            // After the watch is in place, so that no arrival falls in between.
            arrived.notify_one();
        }
    }
}

fn watch(path: &Path, arrived: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let arrived = Arc::downgrade(arrived);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error, such as an overflow of the event queue, may hide an arrival.
        if event.map_or(true, |event| tells(&event))
            && let Some(arrived) = arrived.upgrade()
        {
            arrived.notify_one();
        }
    })?;
    watcher.watch(path, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether a file may have become complete: `push` and `basic_archive` rename, `cp` closes,
/// the `chmod` after it makes it readable. A rename within the directory is told as `To`, too;
/// what is told besides (`Both`) names the old name first.
fn tells(event: &Event) -> bool {
    let kind = matches!(
        event.kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To))
            | EventKind::Modify(ModifyKind::Metadata(_))
    );
    let name = |path: &PathBuf| path.file_name().is_some_and(|name| !names::ignored(name));
    event.need_rescan() || (kind && event.paths.iter().any(name))
}
