//! Looking before acting: clocks, marks, comparisons, the plan for each prefix.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use walferry_catalog::identity::{self, Identity};
use walferry_catalog::{Cluster, Prefix, clusters, holds, server};
use walferry_proof::RepositoryName;
use walferry_store::{Repository, StoreError};

use crate::compare::{CompareError, Comparison, compare};
use crate::guards::{Refusal, Untrusted, clock};
use crate::load::{Loaded, load};
use crate::mark::{CatalogMark, MarkError};
use crate::plan::{Plan, plan};
use crate::report::{Skipped, Why};
use crate::retention::{RetainError, Retention};

/// Everything a run must know before it may delete. Reads only.
pub(crate) struct Survey {
    pub(crate) now: DateTime<Utc>,
    pub(crate) prefixes: Vec<Surveyed>,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) skipped: Vec<Skipped>,
}

pub(crate) struct Surveyed {
    pub(crate) prefix: Prefix,
    pub(crate) loaded: Loaded,
    pub(crate) plan: Plan,
    /// Repositories that answered and are trusted, or were compared just now.
    pub(crate) active: Vec<Arc<dyn Repository>>,
    /// Highest epoch that any bucket has seen.
    pub(crate) seen_epoch: u64,
    pub(crate) compared: Vec<Comparison>,
}

impl Survey {
    pub(crate) async fn make(
        retention: &Retention,
        cluster: &Cluster,
    ) -> Result<Self, RetainError> {
        let mut conn = retention.catalog.get().await?;
        let holds = holds::active(&mut conn, Some(cluster.id)).await?;
        let now = server::now(&mut conn).await?;
        let identity = identity::read(&mut conn).await?;
        let prefixes = clusters::prefixes(&mut conn, cluster.id).await?;
        drop(conn);

        let mut survey = Self {
            now,
            prefixes: Vec::new(),
            refusals: Vec::new(),
            skipped: Vec::new(),
        };
        if !holds.is_empty() {
            survey.refusals.push(Refusal::Held { holds });
        }
        let answering = survey.clocks(retention).await;
        // Whose system is not known yet has nothing archived, and what lies in it is not
        // known to be its own: no mark of ours before the owner's.
        for prefix in prefixes.into_iter().filter(|it| it.system_id.is_some()) {
            survey
                .look(retention, prefix, &identity, &answering)
                .await?;
        }
        Ok(survey)
    }

    /// Asks every repository for its time; returns those that answered.
    async fn clocks(&mut self, retention: &Retention) -> Vec<Arc<dyn Repository>> {
        let limit = retention.policy.max_clock_difference;
        self.refusals
            .extend(clock(None, Utc::now(), self.now, limit));
        let asked = retention.repositories.iter().map(|repository| async move {
            let answer = repository.clock().await;
            (repository, Utc::now(), answer)
        });
        let mut answering = Vec::new();
        for (repository, ours, answer) in join_all(asked).await {
            match answer {
                Ok(theirs) => {
                    self.refusals
                        .extend(clock(Some(repository.name()), ours, theirs, limit));
                    answering.push(Arc::clone(repository));
                }
                // Its clock cannot be compared, so nothing is deleted there; what is due
                // stays due.
                Err(error) => self.away(repository.name(), &error),
            }
        }
        answering
    }

    async fn look(
        &mut self,
        retention: &Retention,
        prefix: Prefix,
        identity: &Identity,
        answering: &[Arc<dyn Repository>],
    ) -> Result<(), RetainError> {
        let mut conn = retention.catalog.get().await?;
        let records = identity::compared(&mut conn, prefix.id).await?;
        drop(conn);
        let mut active = Vec::new();
        let mut compared = Vec::new();
        let mut seen_epoch = 0;
        for repository in answering {
            let name = repository.name();
            let mark = match CatalogMark::read(repository.as_ref(), &prefix.key_prefix).await {
                Ok(mark) => mark,
                Err(MarkError::Store(error)) => {
                    self.away(name, &error);
                    continue;
                }
                Err(error @ MarkError::Unreadable { .. }) => {
                    self.refusals.push(Refusal::Mark {
                        repository: name.clone(),
                        problem: error.to_string(),
                    });
                    continue;
                }
            };
            seen_epoch = seen_epoch.max(mark.as_ref().map_or(0, |mark| mark.identity.epoch));
            let record = records.iter().find(|(repository, _)| repository == name);
            let record = record.map(|(_, identity)| identity);
            if let Some(why) = Untrusted::judge(identity, mark.as_ref(), record) {
                match compare(&retention.catalog, &prefix, repository.as_ref()).await {
                    Ok(comparison) if comparison.equal() => compared.push(comparison),
                    Ok(comparison) => {
                        self.refusals.push(Refusal::Differs { why, comparison });
                        continue;
                    }
                    Err(CompareError::Store(error)) => {
                        self.away(name, &error);
                        continue;
                    }
                    Err(CompareError::Catalog(error)) => return Err(error.into()),
                    Err(error @ CompareError::Endless { .. }) => {
                        self.refusals.push(Refusal::Mark {
                            repository: name.clone(),
                            problem: error.to_string(),
                        });
                        continue;
                    }
                }
            }
            active.push(Arc::clone(repository));
        }

        let mut conn = retention.catalog.get().await?;
        let loaded = load(&mut conn, &prefix).await?;
        drop(conn);
        let plan = plan(&loaded.inventory, &retention.policy, self.now);
        let limit = retention.policy.max_delete_share;
        if plan.share > limit {
            self.refusals.push(Refusal::Share {
                prefix: prefix.key_prefix.clone(),
                share: plan.share,
                limit,
            });
        }
        for repository in &plan.repositories {
            let configured = retention.repositories.iter();
            if !configured.map(|r| r.name()).any(|name| name == repository) {
                self.skip(repository, Why::NotConfigured);
            }
        }
        self.prefixes.push(Surveyed {
            prefix,
            loaded,
            plan,
            active,
            seen_epoch,
            compared,
        });
        Ok(())
    }

    pub(crate) fn away(&mut self, repository: &RepositoryName, error: &StoreError) {
        let why = Why::Away {
            error: error.report(),
            cause: error.cause(),
        };
        self.skip(repository, why);
    }

    fn skip(&mut self, repository: &RepositoryName, why: Why) {
        if !self.skipped.iter().any(|s| s.repository == *repository) {
            self.skipped.push(Skipped {
                repository: repository.clone(),
                why,
            });
        }
    }
}
