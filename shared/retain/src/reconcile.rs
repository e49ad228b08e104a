//! After an import: rows are brought into line with what the buckets hold, so that retention
//! may act again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use walferry_catalog::identity;
use walferry_catalog::retention::{self as rows, RunResult, Started};
use walferry_catalog::{CatalogError, Cluster, Prefix, clusters, server};
use walferry_proof::{KeyPrefix, ObjectKey, RepositoryName};

use crate::compare::{CompareError, Comparison, compare};
use crate::mark::{CatalogMark, MarkError};
use crate::repair::{RepairError, Repaired, repair};
use crate::retention::Retention;

/// A retention run is over in seconds; one that hangs is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of one repository's part of a prefix.
#[derive(Debug, Clone, Serialize)]
pub struct Reconciled {
    pub prefix: KeyPrefix,
    pub repository: RepositoryName,
    pub repaired: Repaired,
    /// What still differs and keeps retention from acting; `None`: it may act.
    pub differs: Option<Comparison>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(
        "a retention run of this cluster is at work since {since}. HINT: what was adopted stays so; run the import again when it is over"
    )]
    Busy { since: DateTime<Utc> },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Compare(#[from] CompareError),
    #[error(transparent)]
    Repair(#[from] RepairError),
    #[error(transparent)]
    Mark(#[from] MarkError),
}

impl Retention {
    /// Takes back what the buckets do not hold, and accepts what they hold besides if it is
    /// among `left`: what a person was just told of. Where nothing else differs, the
    /// comparison is remembered as after a run of retention's own.
    ///
    /// Only for a person's explicit wish (`walferry import`), as [`repair`]. Deletes no
    /// object. May be killed and repeated at any point.
    ///
    /// # Errors
    /// `Busy` while retention is at work, which would act on rows that change here. The
    /// repositories' and the catalog's; what was taken back stays so.
    pub async fn reconcile(
        &self,
        cluster: &Cluster,
        left: &HashSet<(RepositoryName, ObjectKey)>,
    ) -> Result<Vec<Reconciled>, ReconcileError> {
        let mut conn = self.catalog.get().await?;
        // An import says nothing new about the window.
        let last = rows::last_run(&mut conn, cluster.id).await?;
        let window_proven = last.is_some_and(|last| last.window_proven);
        let asked = Instant::now();
        let run = loop {
            match rows::start_run(&mut conn, cluster.id, self.lease).await? {
                Started::Run(run) => break run,
                Started::Busy { since } if asked.elapsed() > PATIENCE => {
                    return Err(ReconcileError::Busy { since });
                }
                Started::Busy { .. } => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        };
        drop(conn);
        let reconciled = self.each_prefix(cluster, left).await;
        let outcome = match &reconciled {
            Ok(all) if all.iter().all(|one| one.differs.is_none()) => "import: compared".to_owned(),
            Ok(_) => "import: rows and objects still differ".to_owned(),
            Err(error) => format!("import: {error}"),
        };
        let result = RunResult {
            planned: 0,
            deleted: 0,
            failed: 0,
            window_proven,
            outcome,
        };
        let mut conn = self.catalog.get().await?;
        rows::finish_run(&mut conn, run, &result).await?;
        reconciled
    }

    async fn each_prefix(
        &self,
        cluster: &Cluster,
        left: &HashSet<(RepositoryName, ObjectKey)>,
    ) -> Result<Vec<Reconciled>, ReconcileError> {
        let mut conn = self.catalog.get().await?;
        let now = server::now(&mut conn).await?;
        let prefixes = clusters::prefixes(&mut conn, cluster.id).await?;
        drop(conn);
        let mut all = Vec::new();
        for prefix in prefixes.iter().filter(|it| it.system_id.is_some()) {
            // Every repository's losses before any is compared again: whether a file is lost
            // is known only when the last copy of it was looked for.
            let mut repaired = Vec::new();
            for repository in &self.repositories {
                let found = compare(&self.catalog, prefix, repository.as_ref()).await?;
                let before = self.policy.cutoff(now);
                let done =
                    repair(&self.catalog, prefix, repository.as_ref(), &found, before).await?;
                repaired.push(done);
            }
            let mut compared = Vec::new();
            for repository in &self.repositories {
                compared.push(compare(&self.catalog, prefix, repository.as_ref()).await?);
            }
            self.accept(prefix, &compared, left, now).await?;
            all.extend(
                repaired
                    .into_iter()
                    .zip(compared)
                    .map(|(repaired, found)| Reconciled {
                        prefix: prefix.key_prefix.clone(),
                        repository: found.repository.clone(),
                        repaired,
                        differs: (!told(&found, left)).then_some(found),
                    }),
            );
        }
        Ok(all)
    }

    /// Catalog first, marks second, as before a deletion; the records last.
    async fn accept(
        &self,
        prefix: &Prefix,
        compared: &[Comparison],
        left: &HashSet<(RepositoryName, ObjectKey)>,
        now: DateTime<Utc>,
    ) -> Result<(), ReconcileError> {
        let mut seen_epoch = 0;
        for repository in &self.repositories {
            let mark = CatalogMark::read(repository.as_ref(), &prefix.key_prefix).await?;
            seen_epoch = seen_epoch.max(mark.map_or(0, |mark| mark.identity.epoch));
        }
        let mut conn = self.catalog.get().await?;
        let identity = identity::raise_epoch(&mut conn, seen_epoch).await?;
        let mark = CatalogMark {
            identity,
            written_at: now,
        };
        for (repository, found) in self.repositories.iter().zip(compared) {
            if told(found, left) {
                mark.write(repository.as_ref(), &prefix.key_prefix)
                    .await
                    .map_err(CompareError::from)?;
                identity::set_compared(&mut conn, prefix.id, repository.name(), &identity).await?;
            }
        }
        Ok(())
    }
}

/// Whether nothing differs but objects that a person was told of.
fn told(found: &Comparison, left: &HashSet<(RepositoryName, ObjectKey)>) -> bool {
    let mut unknown = found.unknown.iter();
    found.total == found.unknown.len() as u64
        && unknown.all(|key| left.contains(&(found.repository.clone(), key.clone())))
}
