//! Taking a base of a cluster.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use walferry_archive::copied::chain;
use walferry_archive::owner::{Owner, OwnerError, OwnerMarks};
use walferry_base::{BaseFacts, CopySettings, Progress, TakeError, TakeSettings, Taken};
use walferry_catalog::bases::{self, RunOutcome};
use walferry_catalog::{Catalog, Prefix, clusters, events, protected, repositories};
use walferry_killpoint::kill_point;
use walferry_layout::base::{BaseLabel, CompleteBase};
use walferry_proof::{KeyPrefix, RepositoryName};
use walferry_replication::{
    BaseBackupOptions, BaseBackupStream, Connection, ReplicationError, ServerSettings,
};
use walferry_store::Repository;
use walferry_wal::{SystemId, TimelineId};

use crate::complete::{Complete, Completed, recorded};
use crate::error::BackupError;
use crate::histories::Histories;
use crate::lease::{Asked, Lease};

/// Slices on their way at once while a base is copied.
const TRANSFERS: usize = 4;
/// The next label differs.
const LABEL: Duration = Duration::from_secs(1);

/// A cluster whose base is to be taken.
pub struct Backup {
    /// Its name in the configuration.
    pub cluster: String,
    /// Its first prefix, as configured; the catalog knows whether a later one is open.
    pub prefix: KeyPrefix,
    pub server: ServerSettings,
    /// To ask for its clock, which replication has no word for. `None`, and one that does not
    /// answer: it is taken to be ours.
    pub clock: Option<protected::Server>,
    pub repositories: Vec<Arc<dyn Repository>>,
    /// Which of them VERIFIED needs.
    pub required: Vec<RepositoryName>,
    /// `None`: it cannot be reached, and a base is worth more than its row.
    pub catalog: Option<Catalog>,
    /// Who takes it, for the lease.
    pub by: String,
    pub take: TakeSettings,
    /// KiB per second.
    pub max_rate: Option<NonZeroU64>,
    pub fast_checkpoint: bool,
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    Taken(Box<Report>),
    /// Another run takes a base of this cluster now: that one is enough.
    Busy {
        by: String,
    },
}

/// A base, and what was done besides.
#[derive(Debug)]
pub struct Report {
    pub base: CompleteBase,
    pub complete_in: Vec<RepositoryName>,
    /// Repositories that get it later, and why.
    pub dropped: Vec<(RepositoryName, String)>,
    /// Histories that a repository lacked.
    pub histories: Vec<TimelineId>,
    /// Earlier bases.
    pub completed: Completed,
}

/// Those that may be written to, and the others with the reason.
type Ours = (Vec<Arc<dyn Repository>>, Vec<(RepositoryName, String)>);

/// Where the cluster's files go, and whether its rows can be written.
struct Place {
    prefix: KeyPrefix,
    row: Option<Prefix>,
}

impl Backup {
    /// Takes a base. Of a run that `cancel` stops nothing is left and nothing is said in the
    /// catalog; one that was killed leaves remains, which the next one removes.
    ///
    /// # Errors
    /// [`BackupError`]: no repository has a new base.
    pub async fn run(
        &self,
        progress: &watch::Sender<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Outcome, BackupError> {
        let stop = cancel.child_token();
        let place = self.place().await?;
        let lease = match (&self.catalog, &place.row) {
            (Some(catalog), Some(row)) => {
                let asked = Lease::ask(catalog, row.cluster, &self.by, &stop);
                match or_cancelled(cancel, asked).await?? {
                    Asked::Mine(lease) => Some(lease),
                    Asked::Busy(by) => return Ok(Outcome::Busy { by }),
                }
            }
            _ => None,
        };
        let result = self.take(&place, progress, &stop).await;
        let result = match result {
            Err(_) if cancel.is_cancelled() => Err(BackupError::Cancelled),
            Err(_) if stop.is_cancelled() => Err(BackupError::LeaseLost),
            result => result,
        };
        if let Some(lease) = lease {
            self.end(&place, lease, &result).await;
        }
        result.map(|report| Outcome::Taken(Box::new(report)))
    }

    async fn place(&self) -> Result<Place, BackupError> {
        let Some(catalog) = &self.catalog else {
            return Ok(Place {
                prefix: self.prefix.clone(),
                row: None,
            });
        };
        let mut conn = catalog.get().await?;
        let names: Vec<_> = self
            .repositories
            .iter()
            .map(|one| one.name().clone())
            .collect();
        repositories::ensure_repositories(&mut conn, &names).await?;
        let cluster = clusters::ensure_cluster(&mut conn, &self.cluster, &self.prefix).await?;
        Ok(Place {
            prefix: cluster.prefix.key_prefix.clone(),
            row: Some(cluster.prefix),
        })
    }

    async fn take(
        &self,
        place: &Place,
        progress: &watch::Sender<Progress>,
        stop: &CancellationToken,
    ) -> Result<Report, BackupError> {
        let catalog = self.catalog.as_ref().zip(place.row.as_ref());
        let prepared = self.prepare(place);
        let Prepared {
            facts,
            repositories,
            refused,
            histories,
        } = or_cancelled(stop, prepared).await??;
        let copying = CopySettings {
            pool: self.take.pool.clone(),
            transfers: TRANSFERS,
            stall: self.take.stall,
            patience: self.take.patience,
        };
        // Before the new one: the remains of the last try may be as large as a base.
        let complete = Complete {
            prefix: &place.prefix,
            repositories: &repositories,
            catalog: catalog.map(|(catalog, row)| (catalog, row.id)),
            settings: &copying,
            cancel: stop,
        };
        let completed = or_cancelled(stop, complete.run()).await??;
        let now = BaseLabel::at(Utc::now() + facts.clock_ahead);
        if completed.cleaned.iter().any(|(_, one)| one.label == now) {
            // Labels are seconds, and an object of the run that died may still be on its way.
            or_cancelled(stop, tokio::time::sleep(LABEL)).await?;
        }
        kill_point!("backup.take.before");
        let taken = match self.stream(&facts, &repositories, progress, stop).await {
            // A killed run's, or a quick one's: labels are seconds.
            Err(BackupError::Take(TakeError::LabelTaken { .. })) => {
                or_cancelled(stop, tokio::time::sleep(LABEL)).await?;
                self.stream(&facts, &repositories, progress, stop).await?
            }
            taken => taken?,
        };
        kill_point!("backup.take.after");
        let dropped = taken.dropped.iter();
        let dropped = dropped.map(|one| (one.repository.clone(), chain(&one.reason)));
        let report = Report {
            base: taken.base,
            complete_in: taken.complete_in,
            dropped: dropped.chain(refused).collect(),
            histories,
            completed,
        };
        if let Some((catalog, row)) = catalog {
            record(catalog, row, &report).await;
        }
        kill_point!("backup.record.after");
        tracing::info!(
            cluster.name = self.cluster,
            base.label = %report.base.label,
            size_bytes = report.base.size(),
            stored_bytes = report.base.stored_size(),
            dropped = report.dropped.len(),
            "base backup taken"
        );
        Ok(report)
    }

    async fn stream(
        &self,
        facts: &BaseFacts,
        repositories: &[Arc<dyn Repository>],
        progress: &watch::Sender<Progress>,
        stop: &CancellationToken,
    ) -> Result<Taken, BackupError> {
        let (source, facts) = or_cancelled(stop, self.start(facts.clone())).await??;
        let taken = walferry_base::take(source, facts, repositories, &self.take, progress, stop);
        Ok(taken.await?)
    }

    /// Makes the server begin, on a connection of its own: copying may have taken hours.
    async fn start(&self, facts: BaseFacts) -> Result<(BaseBackupStream, BaseFacts), BackupError> {
        let failed = |source| self.refused(source);
        let mut server = Connection::open(&self.server).await.map_err(failed)?;
        let identity = server.identify().await.map_err(failed)?;
        if let Some(other) = self.other(facts.system_id, identity.system_id) {
            return Err(other);
        }
        let facts = BaseFacts {
            server_version: server.server_version(),
            from_standby: server.in_recovery().await.map_err(failed)?,
            started_at: Utc::now() + facts.clock_ahead,
            ..facts
        };
        let options = BaseBackupOptions {
            label: format!("walferry {}", BaseLabel::at(facts.started_at)),
            fast_checkpoint: self.fast_checkpoint,
            max_rate: self.max_rate.map(NonZeroU64::get),
        };
        let stream = server.base_backup(options).await.map_err(failed)?;
        Ok((stream, facts))
    }

    fn other(&self, ours: SystemId, found: SystemId) -> Option<BackupError> {
        (ours != found).then(|| BackupError::OtherSystem {
            cluster: self.cluster.clone(),
            server: self.server.shown(),
            found,
            ours,
        })
    }

    /// Everything up to the backup itself: who the server is, whose the prefixes are, and the
    /// histories that are missing.
    async fn prepare(&self, place: &Place) -> Result<Prepared, BackupError> {
        let failed = |source| self.refused(source);
        let mut server = Connection::open(&self.server).await.map_err(failed)?;
        let identity = server.identify().await.map_err(failed)?;
        let segment_size = server.segment_size().await.map_err(failed)?;
        let from_standby = server.in_recovery().await.map_err(failed)?;
        let ours = place.row.as_ref().and_then(|row| row.system_id);
        if let Some(other) = ours.and_then(|ours| self.other(ours, identity.system_id)) {
            return Err(other);
        }
        let owner = Owner {
            cluster: self.cluster.clone(),
            system_id: identity.system_id,
            segment_size,
        };
        let catalog = self.catalog.as_ref().zip(place.row.as_ref());
        if let Some((catalog, row)) = catalog {
            let mut conn = catalog.get().await?;
            clusters::set_identity(&mut conn, row.id, identity.system_id, segment_size).await?;
        }
        let (repositories, refused) = self.ours(place, &owner).await?;
        let histories = Histories {
            cluster: &self.cluster,
            prefix: &place.prefix,
            system_id: identity.system_id,
            repositories: &repositories,
            required: &self.required,
            catalog: catalog.map(|(catalog, row)| (catalog, row.id)),
            pool: &self.take.pool,
        }
        .archive(&mut server, identity.timeline)
        .await?;
        let facts = BaseFacts {
            cluster: self.cluster.clone(),
            prefix: place.prefix.clone(),
            system_id: identity.system_id,
            segment_size,
            server_version: server.server_version(),
            from_standby,
            started_at: Utc::now(),
            clock_ahead: self.clock_ahead().await,
        };
        Ok(Prepared {
            facts,
            repositories,
            refused,
            histories,
        })
    }

    /// The repositories whose prefix is this system's. One of another system stops everything:
    /// the server or the prefix is not what the configuration says.
    async fn ours(&self, place: &Place, owner: &Owner) -> Result<Ours, BackupError> {
        let marks = OwnerMarks::default();
        let mut ours = Vec::new();
        let mut refused = Vec::new();
        let mut first = None;
        for repository in &self.repositories {
            match marks.ensure(&**repository, &place.prefix, owner).await {
                Ok(()) => ours.push(Arc::clone(repository)),
                Err(error @ OwnerError::OtherSystem { .. }) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(
                        repository.name = %repository.name(),
                        error = &error as &dyn std::error::Error,
                        "the repository has no part in this base backup"
                    );
                    refused.push((repository.name().clone(), chain(&error)));
                    first = first.or(Some(error));
                }
            }
        }
        match first {
            Some(error) if ours.is_empty() => Err(error.into()),
            _ => Ok((ours, refused)),
        }
    }

    /// So far the server's clock is ahead of ours: what can be recovered to is counted by it.
    async fn clock_ahead(&self) -> TimeDelta {
        let Some(clock) = &self.clock else {
            return TimeDelta::zero();
        };
        match clock.now().await {
            Ok(theirs) => theirs - Utc::now(),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the server did not tell its time; it is taken to be ours"
                );
                TimeDelta::zero()
            }
        }
    }

    fn refused(&self, source: ReplicationError) -> BackupError {
        BackupError::Server {
            cluster: self.cluster.clone(),
            source,
        }
    }

    /// Writes down how it ended. That it cannot is told and changes nothing.
    async fn end(&self, place: &Place, lease: Lease, result: &Result<Report, BackupError>) {
        let text = result.as_ref().err().map(|error| chain(error));
        let outcome = match result {
            Ok(report) if report.dropped.is_empty() => Some((RunOutcome::Complete, None)),
            Ok(_) => Some((RunOutcome::Partial, None)),
            // Somebody else's turn, or a drain: nothing has failed.
            Err(BackupError::Cancelled | BackupError::LeaseLost) => None,
            Err(_) => Some((RunOutcome::Failed, text.as_deref())),
        };
        let ended = async {
            let failures = lease.end(outcome).await?;
            let (Some(catalog), Some(row)) = (&self.catalog, &place.row) else {
                return Ok(());
            };
            let (code, message) = match (result, &text) {
                // Once, not at every try: the row counts those.
                (Err(_), Some(text)) if failures == 1 => ("base-backup-failed", text.clone()),
                (Ok(report), _) => (
                    "base-backup",
                    format!(
                        "base backup {} is complete in {}",
                        report.base.label,
                        names(&report.complete_in)
                    ),
                ),
                _ => return Ok(()),
            };
            // For the record: what is wrong now `check` reads from the rows, until it is right.
            let event = events::NewEvent {
                severity: events::Severity::Info,
                code,
                cluster: Some(row.cluster),
                message,
            };
            let mut conn = catalog.get().await?;
            events::record(&mut conn, &event).await
        };
        if let Err(error) = ended.await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "how the base backup ended was not written down"
            );
        }
    }
}

/// The base is in the buckets: a catalog that went away meanwhile hears of it from them, at the
/// next run.
async fn record(catalog: &Catalog, row: &Prefix, report: &Report) {
    let written = async {
        let mut conn = catalog.get().await?;
        let base = recorded(&report.base);
        let (complete, dropped) = (&report.complete_in, &report.dropped);
        bases::record(&mut conn, row.id, &base, complete, dropped).await
    };
    if let Err(error) = written.await {
        tracing::warn!(
            base.label = %report.base.label,
            error = &error as &dyn std::error::Error,
            "the base backup is complete and not in the catalog yet; the next run writes it down"
        );
    }
}

struct Prepared {
    facts: BaseFacts,
    repositories: Vec<Arc<dyn Repository>>,
    refused: Vec<(RepositoryName, String)>,
    histories: Vec<TimelineId>,
}

fn names(repositories: &[RepositoryName]) -> String {
    let names: Vec<&str> = repositories.iter().map(RepositoryName::as_str).collect();
    names.join(", ")
}

async fn or_cancelled<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, BackupError> {
    cancel
        .run_until_cancelled(work)
        .await
        .ok_or(BackupError::Cancelled)
}
