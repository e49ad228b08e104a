//! Letting base backups go: each as a unit, before the WAL that only it needed.

use chrono::{DateTime, Utc};
use walferry_base::{is_kept, remove};
use walferry_catalog::bases;
use walferry_catalog::retention::{self as rows, RunId};
use walferry_killpoint::kill_point;
use walferry_layout::base::BaseLabel;

use crate::report::RepositoryReport;
use crate::retention::{RetainError, Retention};
use crate::survey::Surveyed;

impl Retention {
    /// `None` when the run has to stop.
    ///
    /// What of a base a killed run left is no base any more: its `backup.json` went first. The
    /// next run finds the row complete and removes the rest, or the next base backup does.
    pub(crate) async fn expire_bases(
        &self,
        surveyed: &Surveyed,
        run: RunId,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<RepositoryReport>>, RetainError> {
        let plan = &surveyed.plan;
        let mut reports = Vec::new();
        for repository in &surveyed.active {
            let mut report = RepositoryReport::new(repository.name().clone());
            let mut names = plan.repositories.iter();
            let position = names.position(|name| name == repository.name());
            for base in &plan.bases {
                if !position.is_some_and(|position| base.copies.contains(position)) {
                    continue;
                }
                let mut conn = self.catalog.get().await?;
                if !rows::may_go_on(&mut conn, run).await? {
                    return Ok(None);
                }
                drop(conn);
                let Ok(label) = base.label.parse::<BaseLabel>() else {
                    continue;
                };
                let prefix = &surveyed.prefix.key_prefix;
                // The bucket's word counts: the mark may be younger than the catalog's row.
                let removed = match is_kept(&**repository, prefix, label, now).await {
                    Ok(true) => continue,
                    Ok(false) => match remove(&**repository, prefix, label).await {
                        Ok(_) => Ok(()),
                        Err(error) => Err(format!("{error}: {}", error.source)),
                    },
                    Err(error) => Err(format!("read `keep.json` of {label}: {error}")),
                };
                match removed {
                    Ok(()) => {
                        // A crash right here leaves a row of a base that is gone: removed again,
                        // which finds nothing, and then written down.
                        kill_point!("retain-base.removed.before");
                        let mut conn = self.catalog.get().await?;
                        let (name, why) = (repository.name(), base.to_string());
                        let id = surveyed.prefix.id;
                        bases::removed(&mut conn, id, &base.label, name, &why).await?;
                        kill_point!("retain-base.removed.after");
                        report.bases.push(base.label.clone());
                    }
                    Err(error) => {
                        report.failed += 1;
                        report.last_error = Some(error);
                    }
                }
            }
            reports.push(report);
        }
        Ok(Some(reports))
    }
}
