//! A run: look, refuse or act, tell.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::future::{Either, join_all, select};
use walferry_catalog::events;
use walferry_catalog::identity::{self, Identity};
use walferry_catalog::retention::{self as rows, Begun, RunId, RunResult, Started};
use walferry_catalog::{Catalog, CatalogError, Cluster, FileId};
use walferry_killpoint::kill_point;
use walferry_proof::ObjectKey;
use walferry_store::Repository;

use crate::delete::Lane;
use crate::guards::Refusal;
use crate::load::LoadError;
use crate::mark::CatalogMark;
use crate::plan::Deletion;
use crate::policy::Policy;
use crate::report::{Outcome, PrefixReport, Preview, Report, RepositoryReport};
use crate::survey::{Survey, Surveyed};
use crate::tell::{events_of, log};

/// Files whose expiry is begun in one transaction.
const BATCH: usize = 200;

/// A run that was silent for so long is taken for dead, and the next one goes on with what
/// it began. Far above what one batch takes.
const LEASE: Duration = Duration::from_secs(600);

/// Hears of each batch: the cluster, and how many of its objects went.
type Progress = Box<dyn Fn(&str, u64) + Send + Sync>;

/// Deletes what the plan lets go, from every repository.
pub struct Retention {
    pub(crate) catalog: Catalog,
    pub(crate) repositories: Vec<Arc<dyn Repository>>,
    pub(crate) policy: Policy,
    pub(crate) lease: Duration,
    progress: Progress,
}

/// Whether somebody looked at the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Nobody did: a plan above the share is refused.
    Automatic,
    /// `--yes`: a person did. All other guards stay.
    Yes,
}

#[derive(Debug, thiserror::Error)]
pub enum RetainError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Retention {
    pub fn new(catalog: Catalog, repositories: Vec<Arc<dyn Repository>>, policy: Policy) -> Self {
        Self {
            catalog,
            repositories,
            policy,
            lease: LEASE,
            progress: Box::new(|_, _| {}),
        }
    }

    /// Calls `progress` with the cluster and the number of objects that went, after each batch.
    #[must_use]
    pub fn with_progress(self, progress: impl Fn(&str, u64) + Send + Sync + 'static) -> Self {
        Self {
            progress: Box::new(progress),
            ..self
        }
    }

    /// With another lease than ten minutes: how long a silent run keeps others out.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// What a run would do now, and what would keep it from doing so. Changes nothing.
    ///
    /// # Errors
    /// When the catalog does not answer. A repository that does not is in `skipped`.
    pub async fn preview(&self, cluster: &Cluster) -> Result<Preview, RetainError> {
        let survey = Survey::make(self, cluster).await?;
        Ok(Preview {
            cluster: cluster.name.clone(),
            now: survey.now,
            prefixes: survey.prefixes.into_iter().map(prefix_report).collect(),
            refusals: survey.refusals,
            skipped: survey.skipped,
        })
    }

    /// Deletes what may go, if no guard refuses, and logs what a person should know.
    ///
    /// May be dropped or killed at any point: what was begun is EXPIRING in the catalog and
    /// is finished by the next run (after the lease of this one). A second run at the
    /// same time is refused; one that takes over after the lease fences the first.
    ///
    /// # Errors
    /// When the catalog does not answer; what was begun is due again. Failures of a
    /// repository are in the report.
    pub async fn apply(&self, cluster: &Cluster, consent: Consent) -> Result<Report, RetainError> {
        let report = self.apply_until(cluster, consent, std::future::pending());
        Ok(report.await?.expect("nothing stops it"))
    }

    /// The same until `stop`, then `None`. The run is over then, so that the next one need
    /// not wait for its lease.
    ///
    /// # Errors
    /// As [`Retention::apply`].
    pub async fn apply_until(
        &self,
        cluster: &Cluster,
        consent: Consent,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Report>, RetainError> {
        let mut conn = self.catalog.get().await?;
        let last = rows::last_run(&mut conn, cluster.id).await?;
        let run = match rows::start_run(&mut conn, cluster.id, self.lease).await? {
            Started::Run(run) => run,
            Started::Busy { since } => {
                drop(conn);
                let now = Utc::now();
                let busy = vec![Refusal::AnotherRun { since }];
                return Ok(Some(refused(cluster, now, Vec::new(), busy)));
            }
        };
        drop(conn);
        kill_point!("retain.run.started");
        let report = {
            let work = pin!(self.run(cluster, consent, run));
            match select(work, pin!(stop)).await {
                Either::Left((report, _)) => Some(report),
                Either::Right(((), _)) => None,
            }
        };
        // Here what was stopped is gone, and its connections are back in the pool.
        let Some(report) = report else {
            // Of the window it says what the last one said.
            let window_proven = last.is_some_and(|last| last.window_proven);
            self.give_up(run, window_proven).await?;
            return Ok(None);
        };
        let result = match &report {
            Ok(report) => RunResult {
                planned: report.planned(),
                deleted: report.deleted(),
                failed: report.due_again(),
                window_proven: report.window_proven(),
                outcome: report.to_string(),
            },
            Err(error) => RunResult {
                planned: 0,
                deleted: 0,
                failed: 0,
                window_proven: false,
                outcome: format!("failed: {error}"),
            },
        };
        // Not reached, or failed: the run's lease ends by itself.
        let mut conn = self.catalog.get().await?;
        kill_point!("retain.run.finish.before");
        rows::finish_run(&mut conn, run, &result).await?;
        kill_point!("retain.run.finish.after");
        if let Ok(report) = &report {
            for event in events_of(cluster, report) {
                events::record(&mut conn, &event).await?;
            }
            log(report);
        }
        report.map(Some)
    }

    /// Ends a run that was stopped.
    async fn give_up(&self, run: RunId, window_proven: bool) -> Result<(), RetainError> {
        let mut conn = self.catalog.get().await?;
        let result = RunResult {
            planned: 0,
            deleted: 0,
            failed: 0,
            window_proven,
            outcome: "stopped: the program ends".to_owned(),
        };
        Ok(rows::finish_run(&mut conn, run, &result).await?)
    }

    async fn run(
        &self,
        cluster: &Cluster,
        consent: Consent,
        run: RunId,
    ) -> Result<Report, RetainError> {
        let mut survey = Survey::make(self, cluster).await?;
        let refusals = std::mem::take(&mut survey.refusals);
        let refusals: Vec<Refusal> = refusals
            .into_iter()
            .filter(|refusal| match refusal {
                Refusal::Share { .. } => consent == Consent::Automatic,
                _ => true,
            })
            .collect();
        if !refusals.is_empty() {
            let prefixes = survey.prefixes.into_iter().map(prefix_report).collect();
            let mut report = refused(cluster, survey.now, prefixes, refusals);
            report.skipped = survey.skipped;
            return Ok(report);
        }

        let mut report = Report {
            cluster: cluster.name.clone(),
            now: survey.now,
            prefixes: Vec::new(),
            outcome: Outcome::Done,
            skipped: Vec::new(),
            repositories: Vec::new(),
            tombstones: 0,
        };
        for mut surveyed in std::mem::take(&mut survey.prefixes) {
            if matches!(report.outcome, Outcome::Done) {
                self.mark(&mut surveyed, &mut survey).await?;
                // Bases first: one whose WAL is gone would look as if it restored something.
                let bases = self.expire_bases(&surveyed, run, survey.now).await?;
                let going_on = bases.is_some();
                for bases in bases.into_iter().flatten() {
                    add(&mut report.repositories, bases);
                }
                let going_on = going_on && self.delete(&surveyed, run, &mut report).await?;
                if !going_on {
                    report.outcome = Outcome::Stopped;
                }
            }
            report.prefixes.push(prefix_report(surveyed));
        }
        report.skipped = survey.skipped;
        Ok(report)
    }

    /// Raises the epoch and writes it into every bucket that objects are about to go from.
    ///
    /// The order matters. Catalog first: a crash after the commit leaves marks that are
    /// behind, which is harmless. Mark second, deletion third: a catalog restored to a
    /// moment before this deletion finds a mark ahead of it and is not trusted.
    async fn mark(&self, surveyed: &mut Surveyed, survey: &mut Survey) -> Result<(), RetainError> {
        if surveyed.plan.deletions.is_empty()
            && surveyed.plan.bases.is_empty()
            && surveyed.compared.is_empty()
        {
            return Ok(());
        }
        let mut conn = self.catalog.get().await?;
        let identity = identity::raise_epoch(&mut conn, surveyed.seen_epoch).await?;
        drop(conn);
        kill_point!("retain.epoch.after");
        let mark = CatalogMark {
            identity,
            written_at: survey.now,
        };
        let prefix = &surveyed.prefix.key_prefix;
        let writes = surveyed.active.iter().map(|repository| {
            let mark = &mark;
            async move {
                let written = mark.write(repository.as_ref(), prefix).await;
                kill_point!("retain.mark.after");
                written
            }
        });
        let written = join_all(writes).await;
        let mut active = Vec::new();
        for (repository, written) in surveyed.active.iter().zip(written) {
            match written {
                Ok(()) => {
                    self.remember(surveyed, repository.as_ref(), &identity)
                        .await?;
                    active.push(Arc::clone(repository));
                }
                Err(error) => survey.away(repository.name(), &error),
            }
        }
        surveyed.active = active;
        Ok(())
    }

    async fn remember(
        &self,
        surveyed: &Surveyed,
        repository: &dyn Repository,
        identity: &Identity,
    ) -> Result<(), RetainError> {
        let mut conn = self.catalog.get().await?;
        let (prefix, name) = (surveyed.prefix.id, repository.name());
        identity::set_compared(&mut conn, prefix, name, identity).await?;
        kill_point!("retain.compared.after");
        Ok(())
    }

    /// `false` when the run has to stop.
    async fn delete(
        &self,
        surveyed: &Surveyed,
        run: RunId,
        report: &mut Report,
    ) -> Result<bool, RetainError> {
        let plan = &surveyed.plan;
        let mut lanes: Vec<Lane<'_>> = surveyed
            .active
            .iter()
            .filter_map(|repository| {
                let mut names = plan.repositories.iter();
                let position = names.position(|name| name == repository.name())?;
                Some(Lane::new(repository.as_ref(), position))
            })
            .collect();
        // What a killed run had deleted to the last copy.
        report.tombstones += self.finish(surveyed).await?;
        let mut going_on = true;
        for batch in plan.deletions.chunks(BATCH) {
            let Some(begun) = self.begin(surveyed, run, batch, &lanes).await? else {
                going_on = false;
                break;
            };
            let work = lanes.iter_mut().map(|lane| {
                let objects = objects(batch, lane, surveyed, &begun);
                async {
                    if lane.gave_up() {
                        lane.report.left += objects.len() as u64;
                        return Ok(true);
                    }
                    lane.delete(&self.catalog, run, objects).await
                }
            });
            for lane_goes_on in join_all(work).await {
                going_on &= lane_goes_on?;
            }
            let deleted = lanes.iter().map(|lane| lane.report.deleted).sum();
            (self.progress)(&report.cluster, deleted);
            kill_point!("retain.finish.before");
            // After the catalog's word on every copy. A crash right before this leaves rows
            // that are EXPIRING and have no copy: the next run begins with them.
            report.tombstones += self.finish(surveyed).await?;
            kill_point!("retain.finish.after");
            if !going_on {
                break;
            }
        }
        for lane in lanes {
            add(&mut report.repositories, lane.report);
        }
        Ok(going_on)
    }

    /// Commits what this batch is about to delete; `None` when the run has to stop.
    async fn begin(
        &self,
        surveyed: &Surveyed,
        run: RunId,
        batch: &[Deletion],
        lanes: &[Lane<'_>],
    ) -> Result<Option<HashSet<FileId>>, RetainError> {
        let mut copies = Vec::new();
        for deletion in batch {
            let Some(row) = surveyed.loaded.rows.get(&deletion.file) else {
                continue;
            };
            let lanes = lanes.iter().filter(|lane| !lane.gave_up());
            for lane in lanes.filter(|lane| deletion.copies.contains(lane.position)) {
                copies.push((*row, lane.repository.name().clone()));
            }
        }
        if copies.is_empty() {
            // Nothing to begin; what lanes that gave up leave is still counted.
            let rows = batch
                .iter()
                .filter_map(|d| surveyed.loaded.rows.get(&d.file));
            return Ok(Some(rows.copied().collect()));
        }
        let mut conn = self.catalog.get().await?;
        kill_point!("retain.begin.before");
        match rows::begin_expiry(&mut conn, run, &copies).await? {
            Begun::Files(files) => {
                kill_point!("retain.begin.after");
                Ok(Some(files.into_iter().collect()))
            }
            Begun::Stopped => Ok(None),
        }
    }

    async fn finish(&self, surveyed: &Surveyed) -> Result<u64, RetainError> {
        let days = self.policy.window.as_secs() / 86_400;
        let reason = format!("retention: older than {days} days, needed by no known base backup");
        let mut conn = self.catalog.get().await?;
        Ok(rows::finish_expiry(&mut conn, surveyed.prefix.id, &reason).await?)
    }
}

/// What of a batch is this lane's and was really begun.
fn objects(
    batch: &[Deletion],
    lane: &Lane<'_>,
    surveyed: &Surveyed,
    begun: &HashSet<FileId>,
) -> Vec<(FileId, ObjectKey)> {
    batch
        .iter()
        .filter(|deletion| deletion.copies.contains(lane.position))
        .filter_map(|deletion| {
            let row = *surveyed.loaded.rows.get(&deletion.file)?;
            begun.contains(&row).then(|| (row, deletion.key.clone()))
        })
        .collect()
}

fn add(reports: &mut Vec<RepositoryReport>, more: RepositoryReport) {
    match reports.iter_mut().find(|r| r.repository == more.repository) {
        Some(report) => {
            report.deleted += more.deleted;
            report.versions += more.versions;
            report.failed += more.failed;
            report.left += more.left;
            report.bases.extend(more.bases);
            report.last_error = more.last_error.or(report.last_error.take());
        }
        None => reports.push(more),
    }
}

fn refused(
    cluster: &Cluster,
    now: chrono::DateTime<Utc>,
    prefixes: Vec<PrefixReport>,
    refusals: Vec<Refusal>,
) -> Report {
    Report {
        cluster: cluster.name.clone(),
        now,
        prefixes,
        outcome: Outcome::Refused(refusals),
        skipped: Vec::new(),
        repositories: Vec::new(),
        tombstones: 0,
    }
}

fn prefix_report(surveyed: Surveyed) -> PrefixReport {
    PrefixReport {
        prefix: surveyed.prefix.key_prefix,
        plan: surveyed.plan,
        compared: surveyed.compared,
    }
}
