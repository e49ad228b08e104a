//! Deleting from one repository: a few objects at a time, each asked for once more.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use walferry_catalog::retention::{self, MayDelete, RunId};
use walferry_catalog::{Catalog, CatalogError, FileId};
use walferry_killpoint::kill_point;
use walferry_proof::ObjectKey;
use walferry_store::Repository;

use crate::report::RepositoryReport;

/// Deletions in flight per repository. Each holds a connection to the catalog for the
/// moments around its request, never through it.
const AT_ONCE: usize = 4;

/// So many failures in a row end the lane for this run: the repository is away, or refuses.
const FAILURES: u32 = 5;

/// One repository's part in a run.
pub(crate) struct Lane<'a> {
    pub(crate) repository: &'a dyn Repository,
    /// Where it stands in the plan's sets.
    pub(crate) position: usize,
    pub(crate) report: RepositoryReport,
    failures: u32,
}

/// What became of one object.
enum Step {
    Deleted {
        versions: u32,
    },
    Failed {
        error: String,
    },
    NotThis,
    /// Not asked for: the lane had ended.
    Left,
    Stop,
}

impl<'a> Lane<'a> {
    pub(crate) fn new(repository: &'a dyn Repository, position: usize) -> Self {
        Self {
            repository,
            position,
            report: RepositoryReport::new(repository.name().clone()),
            failures: 0,
        }
    }

    pub(crate) fn gave_up(&self) -> bool {
        self.failures >= FAILURES
    }

    /// Deletes these objects, whose expiry was begun; `false` when the run has to stop.
    ///
    /// # Errors
    /// The catalog's. Requests in flight are dropped then: whether they went through is
    /// unknown, their copies are still 'expiring' and are deleted again by the next run.
    pub(crate) async fn delete(
        &mut self,
        catalog: &Catalog,
        run: RunId,
        objects: Vec<(FileId, ObjectKey)>,
    ) -> Result<bool, CatalogError> {
        let repository = self.repository;
        // Set when no further request is to be made; those on the wire are awaited, so that
        // the catalog hears of them.
        let ended = AtomicBool::new(false);
        let ended = &ended;
        let steps = objects.into_iter().map(|(file, key)| async move {
            if ended.load(Ordering::Relaxed) {
                return Ok(Step::Left);
            }
            step(catalog, repository, run, file, &key).await
        });
        let mut steps = futures::stream::iter(steps).buffer_unordered(AT_ONCE);
        let mut going_on = true;
        while let Some(step) = steps.next().await {
            match step? {
                Step::Deleted { versions } => {
                    self.failures = 0;
                    self.report.deleted += 1;
                    self.report.versions += u64::from(versions);
                }
                Step::Failed { error } => {
                    self.failures += 1;
                    self.report.failed += 1;
                    self.report.last_error = Some(error);
                }
                Step::NotThis => {}
                Step::Left => self.report.left += 1,
                Step::Stop => {
                    self.report.left += 1;
                    going_on = false;
                }
            }
            if !going_on || self.gave_up() {
                ended.store(true, Ordering::Relaxed);
            }
        }
        Ok(going_on)
    }
}

/// One object: ask the catalog, delete, tell the catalog.
///
/// Killed before the request: the copy is 'expiring' and there. Killed after it: the copy
/// is 'expiring' and gone, and the next run's delete of an absent key succeeds. The row
/// outlives both, so no object is forgotten. A run that was frozen between question and
/// request can at worst delete the object of a file that has since been tombstoned and
/// handed over again: the request carries exact versions listed after the question where
/// the bucket has versions, and the lease of a run is far longer than a request may take.
async fn step(
    catalog: &Catalog,
    repository: &dyn Repository,
    run: RunId,
    file: FileId,
    key: &ObjectKey,
) -> Result<Step, CatalogError> {
    let name = repository.name();
    let mut conn = catalog.get().await?;
    match retention::may_delete(&mut conn, run, file, name).await? {
        MayDelete::Yes => {}
        MayDelete::NotThis => return Ok(Step::NotThis),
        MayDelete::Stop => return Ok(Step::Stop),
    }
    drop(conn);
    match repository.delete(key).await {
        Ok(deleted) => {
            // A crash right here leaves an 'expiring' copy whose object is gone; the row is
            // still EXPIRING and says VERIFIED to nobody.
            let mut conn = catalog.get().await?;
            kill_point!("retain.copy.before");
            retention::copy_deleted(&mut conn, file, name).await?;
            kill_point!("retain.copy.after");
            Ok(Step::Deleted {
                versions: deleted.versions,
            })
        }
        Err(error) => {
            let mut conn = catalog.get().await?;
            let report = error.report();
            retention::copy_not_deleted(&mut conn, file, name, &report, error.cause()).await?;
            Ok(Step::Failed { error: report })
        }
    }
}
