//! Earlier bases: what a cloud missed is copied from another, the catalog follows the
//! buckets, and remains of interrupted bases go.
//!
//! A second run is harmless: a copy finds what is there already, and rows say what is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use walferry_base::{Abandoned, BaseState, Cleaned, CopySettings, FoundBase};
use walferry_catalog::bases::{self, Base, BaseCopyState, BaseRow, Keep};
use walferry_catalog::{Catalog, CatalogError, PrefixId};
use walferry_layout::base::{BaseLabel, CompleteBase};
use walferry_proof::{KeyPrefix, RepositoryName};
use walferry_store::Repository;

/// Without a lease nobody knows whether a base is being taken: longer than any takes.
const WITHOUT_LEASE: TimeDelta = TimeDelta::days(3);
const NEVER: &str = "it was not complete there when it was found elsewhere";
const GONE: &str = "it is not in the bucket any more";

/// What was done about earlier bases.
#[derive(Debug, Default)]
pub struct Completed {
    /// Now complete there, too.
    pub copied: Vec<(BaseLabel, RepositoryName)>,
    /// Not yet, and why.
    pub failed: Vec<(BaseLabel, RepositoryName, String)>,
    /// Remains that were removed.
    pub cleaned: Vec<(RepositoryName, Cleaned)>,
}

pub(crate) struct Complete<'a> {
    pub(crate) prefix: &'a KeyPrefix,
    pub(crate) repositories: &'a [Arc<dyn Repository>],
    pub(crate) catalog: Option<(&'a Catalog, PrefixId)>,
    pub(crate) settings: &'a CopySettings,
    pub(crate) cancel: &'a CancellationToken,
}

/// What the repositories that answered hold.
struct Seen {
    complete: BTreeMap<BaseLabel, CompleteBase>,
    /// In the order of the repositories.
    holdings: Vec<(Arc<dyn Repository>, BTreeMap<BaseLabel, FoundBase>)>,
}

impl Complete<'_> {
    /// Copies, newest first, and cleans. A repository that does not answer is left for the
    /// next time.
    pub(crate) async fn run(&self) -> Result<Completed, CatalogError> {
        let mut completed = Completed::default();
        let seen = self.look().await;
        let rows = self.follow(&seen).await?;
        for (label, base) in seen.complete.iter().rev() {
            for (to, _) in &seen.holdings {
                if self.cancel.is_cancelled() {
                    return Ok(completed);
                }
                if !seen.is_due(&**to, *label, rows.as_deref()) {
                    continue;
                }
                match self.copy(&seen, base, &**to).await {
                    Ok(()) => {
                        self.note(*label, to.name()).await?;
                        completed.copied.push((*label, to.name().clone()));
                    }
                    Err(error) => {
                        completed.failed.push((*label, to.name().clone(), error));
                    }
                }
            }
        }
        self.clean(&seen, rows.as_deref(), &mut completed).await;
        Ok(completed)
    }

    async fn look(&self) -> Seen {
        let mut seen = Seen {
            complete: BTreeMap::new(),
            holdings: Vec::new(),
        };
        for repository in self.repositories {
            match walferry_base::list(&**repository, self.prefix).await {
                Ok(found) => {
                    for one in &found {
                        if let BaseState::Complete(base) = &one.state {
                            seen.complete
                                .entry(one.label)
                                .or_insert_with(|| (**base).clone());
                        }
                    }
                    let found = found.into_iter().map(|one| (one.label, one));
                    seen.holdings
                        .push((Arc::clone(repository), found.collect()));
                }
                Err(error) => tracing::warn!(
                    repository.name = %repository.name(),
                    error = &error as &dyn std::error::Error,
                    "its base backups could not be listed; it is left for the next time"
                ),
            }
        }
        seen
    }

    /// Brings the catalog's rows to what was seen, and returns them.
    async fn follow(&self, seen: &Seen) -> Result<Option<Vec<BaseRow>>, CatalogError> {
        let Some((catalog, prefix)) = self.catalog else {
            return Ok(None);
        };
        let mut conn = catalog.get().await?;
        let rows = bases::list(&mut conn, prefix).await?;
        for (label, base) in &seen.complete {
            let known = rows.iter().any(|row| row.base.label == label.to_string());
            let (complete, lacking): (Vec<_>, Vec<_>) = seen
                .holdings
                .iter()
                .partition(|(_, found)| is_complete(found, *label));
            let complete: Vec<_> = complete.iter().map(|(one, _)| one.name().clone()).collect();
            let dropped: Vec<_> = lacking
                .iter()
                .filter(|_| !known)
                .map(|(one, _)| (one.name().clone(), NEVER.to_owned()))
                .collect();
            bases::record(&mut conn, prefix, &recorded(base), &complete, &dropped).await?;
            // A mark in any repository keeps; that there is none counts only if all were asked.
            let mark = seen.keep(*label);
            if mark.is_some() || seen.holdings.len() == self.repositories.len() {
                bases::keep(&mut conn, prefix, &label.to_string(), mark).await?;
            }
        }
        for row in &rows {
            for copy in &row.copies {
                let gone = copy.state == BaseCopyState::Complete
                    && seen.holdings.iter().any(|(repository, found)| {
                        *repository.name() == copy.repository
                            && !row
                                .base
                                .label
                                .parse()
                                .is_ok_and(|label| is_there(found, label))
                    });
                if gone {
                    let label = &row.base.label;
                    bases::removed(&mut conn, prefix, label, &copy.repository, GONE).await?;
                }
            }
        }
        Ok(Some(bases::list(&mut conn, prefix).await?))
    }

    /// Copies from the first that has it and gives it whole.
    async fn copy(
        &self,
        seen: &Seen,
        base: &CompleteBase,
        to: &dyn Repository,
    ) -> Result<(), String> {
        let mut last = "no repository that answers has it".to_owned();
        for (from, found) in &seen.holdings {
            if !is_complete(found, base.label) {
                continue;
            }
            let from: &dyn Repository = &**from;
            match walferry_base::copy(base, self.prefix, from, to, self.settings, self.cancel).await
            {
                Ok(copied) => {
                    tracing::info!(
                        base.label = %base.label,
                        repository.name = %to.name(),
                        slices = copied.slices,
                        "a base backup was copied to the repository that lacked it"
                    );
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(
                        base.label = %base.label,
                        repository.name = %to.name(),
                        error = &error as &dyn std::error::Error,
                        "a base backup was not copied; the next run tries again"
                    );
                    last = walferry_archive::copied::chain(&error);
                }
            }
        }
        Err(last)
    }

    async fn note(
        &self,
        label: BaseLabel,
        repository: &RepositoryName,
    ) -> Result<(), CatalogError> {
        let Some((catalog, prefix)) = self.catalog else {
            return Ok(());
        };
        let mut conn = catalog.get().await?;
        bases::copied(&mut conn, prefix, &label.to_string(), repository).await
    }

    async fn clean(&self, seen: &Seen, rows: Option<&[BaseRow]>, completed: &mut Completed) {
        for (repository, _) in &seen.holdings {
            let rule = Abandoned {
                older_than: match self.catalog {
                    // Whoever takes a base holds the lease, and that is us.
                    Some(_) => TimeDelta::zero(),
                    None => WITHOUT_LEASE,
                },
                running: seen.awaited(&**repository, rows),
            };
            match walferry_base::clean(&**repository, self.prefix, &rule).await {
                Ok(cleaned) => {
                    for one in cleaned {
                        tracing::info!(
                            base.label = %one.label,
                            repository.name = %repository.name(),
                            objects = one.objects,
                            "remains of an interrupted base backup were removed"
                        );
                        completed.cleaned.push((repository.name().clone(), one));
                    }
                }
                Err(error) => tracing::warn!(
                    repository.name = %repository.name(),
                    error = &error as &dyn std::error::Error,
                    "remains of base backups were not removed; the next run tries again"
                ),
            }
        }
    }
}

impl Seen {
    /// Whether that repository is to get the base: it was dropped from it. One that is new
    /// gets no old bases, and one from which retention took it does not get it back.
    fn is_due(&self, to: &dyn Repository, label: BaseLabel, rows: Option<&[BaseRow]>) -> bool {
        let Some((_, found)) = self
            .holdings
            .iter()
            .find(|(repository, _)| repository.name() == to.name())
        else {
            return false;
        };
        if is_complete(found, label) {
            return false;
        }
        match rows {
            Some(rows) => rows
                .iter()
                .filter(|row| row.base.label == label.to_string())
                .flat_map(|row| &row.copies)
                .any(|copy| copy.repository == *to.name() && copy.state == BaseCopyState::Dropped),
            // It had begun there.
            None => is_there(found, label),
        }
    }

    /// The longest that any repository keeps it.
    fn keep(&self, label: BaseLabel) -> Option<Keep> {
        let marks = self.holdings.iter().filter_map(|(_, found)| {
            let mark = found.get(&label)?.keep.as_ref()?;
            Some(mark.until)
        });
        // `None` is for ever.
        marks
            .reduce(|one, other| Some(one?.max(other?)))
            .map(|until| Keep { until })
    }

    /// Labels whose part in the repository is used when they are copied there, also while the
    /// one that has them does not answer.
    fn awaited(&self, to: &dyn Repository, rows: Option<&[BaseRow]>) -> BTreeSet<BaseLabel> {
        let dropped = rows.unwrap_or_default().iter().filter(|row| {
            row.copies
                .iter()
                .any(|copy| copy.repository == *to.name() && copy.state == BaseCopyState::Dropped)
        });
        self.complete
            .keys()
            .copied()
            .filter(|label| self.is_due(to, *label, rows))
            .chain(dropped.filter_map(|row| row.base.label.parse().ok()))
            .collect()
    }
}

fn is_complete(found: &BTreeMap<BaseLabel, FoundBase>, label: BaseLabel) -> bool {
    let state = found.get(&label).map(|one| &one.state);
    matches!(state, Some(BaseState::Complete(_)))
}

/// Complete or not, readable or not.
fn is_there(found: &BTreeMap<BaseLabel, FoundBase>, label: BaseLabel) -> bool {
    found.contains_key(&label)
}

/// A base as the catalog has it.
#[must_use]
pub fn recorded(base: &CompleteBase) -> Base {
    Base {
        label: base.label.to_string(),
        system_id: base.system_id,
        segment_size: base.segment_size,
        server_version: base.server_version,
        from_standby: base.from_standby,
        start_lsn: base.start_lsn,
        start_timeline: base.start_timeline,
        stop_lsn: base.stop_lsn,
        stop_timeline: base.stop_timeline,
        started_at: base.started_at,
        stopped_at: base.stopped_at,
        size: base.size(),
        stored_size: base.stored_size(),
        tablespaces: u32::try_from(base.tablespaces.len()).unwrap_or(u32::MAX),
    }
}
