//! Rows that speak of objects that are not there: after the catalog was restored from the
//! past, or after somebody deleted from a bucket by hand.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use walferry_catalog::events::{self, NewEvent, Severity};
use walferry_catalog::retention::{self, AfterLoss};
use walferry_catalog::{Catalog, Prefix};
use walferry_layout::object_key;
use walferry_store::ReadRepository;
use walferry_wal::WalFile;

use crate::compare::{CompareError, Comparison};
use crate::load::load;
use crate::retention::RetainError;

/// What was done about missing objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Due, and made again from another repository or the local file.
    pub due: u64,
    /// Older than the window and nowhere: deleted by retention after the moment that the
    /// catalog was restored to. Tombstones now.
    pub forgotten: u64,
    /// Within the window and nowhere: holes in the archive.
    pub lost: Vec<WalFile>,
    /// There after all, or no longer verified by the catalog's word.
    pub untouched: u64,
}

/// Takes back, for every file that `comparison` misses, that it is verified there; each is
/// looked for once more before. `forget_before` is the beginning of the window.
///
/// Only for a person's explicit wish (`walferry import`): a bucket that was emptied by
/// mistake, or another bucket under the old name, looks just the same. May be killed and
/// repeated at any point.
///
/// # Errors
/// The repository's and the catalog's; what was taken back stays so.
pub async fn repair(
    catalog: &Catalog,
    prefix: &Prefix,
    repository: &dyn ReadRepository,
    comparison: &Comparison,
    forget_before: DateTime<Utc>,
) -> Result<Repaired, RepairError> {
    let mut repaired = Repaired::default();
    if comparison.missing.is_empty() {
        return Ok(repaired);
    }
    let mut conn = catalog.get().await.map_err(CompareError::from)?;
    let rows: HashMap<_, _> = load(&mut conn, prefix)
        .await
        .map_err(RetainError::from)?
        .rows;
    drop(conn);
    for file in &comparison.missing {
        let key = object_key(&prefix.key_prefix, file);
        let there = repository.head(&key).await.map_err(CompareError::from)?;
        let (Some(row), None) = (rows.get(file), there) else {
            repaired.untouched += 1;
            continue;
        };
        let mut conn = catalog.get().await.map_err(CompareError::from)?;
        let after = retention::copy_missing(&mut conn, *row, repository.name(), forget_before)
            .await
            .map_err(CompareError::from)?;
        match after {
            AfterLoss::Due => repaired.due += 1,
            AfterLoss::Forgotten => repaired.forgotten += 1,
            AfterLoss::Untouched => repaired.untouched += 1,
            AfterLoss::Lost => {
                let message =
                    format!("`{file}` is in no repository any more: recovery cannot pass it");
                let event = NewEvent {
                    severity: Severity::Critical,
                    code: "segment-lost",
                    cluster: Some(prefix.cluster),
                    message,
                };
                let recorded = events::record(&mut conn, &event).await;
                recorded.map_err(CompareError::from)?;
                repaired.lost.push(*file);
            }
        }
    }
    let mut conn = catalog.get().await.map_err(CompareError::from)?;
    let reason = "import: no repository has it, it is older than the window";
    retention::finish_expiry(&mut conn, prefix.id, reason)
        .await
        .map_err(CompareError::from)?;
    Ok(repaired)
}

#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error(transparent)]
    Compare(#[from] CompareError),
    #[error(transparent)]
    Retain(#[from] RetainError),
}
