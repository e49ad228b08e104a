//! From the catalog's rows to the facts that a plan is made from.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use walferry_catalog::bases::{self, BaseCopyState};
use walferry_catalog::retention::{self, FileStatus, RetentionFile};
use walferry_catalog::{CatalogError, Conn, CopyState, FileId, Prefix, labels};
use walferry_proof::{KeyPrefix, RepositoryName};
use walferry_wal::{History, Lsn, SegmentName, WalFile};

use crate::inventory::{Base, FileFacts, Inventory, Lies, RepositorySet, Status};

/// Rows per query.
const PAGE: u32 = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(
        "more than {} repositories hold copies under `{prefix}`, `{repository}` is one too many",
        RepositorySet::LIMIT
    )]
    TooManyRepositories {
        prefix: KeyPrefix,
        repository: RepositoryName,
    },
}

/// The facts about one prefix, with the rows behind the files.
#[derive(Debug)]
pub struct Loaded {
    pub inventory: Inventory,
    pub(crate) rows: HashMap<WalFile, FileId>,
}

/// Reads everything the catalog knows about a prefix.
///
/// Pages are read one after the other, not at one moment: what a plan is wrong about for
/// that reason is noticed when the expiry begins, as that looks at each row again.
///
/// # Errors
/// The catalog's, and more repositories than a plan can tell apart.
pub async fn load(conn: &mut Conn, prefix: &Prefix) -> Result<Loaded, LoadError> {
    let mut inventory = Inventory::new(prefix.key_prefix.clone(), prefix.segment_size);
    let mut rows = HashMap::new();
    let mut labelled_at = HashMap::new();
    let mut after: Option<WalFile> = None;
    loop {
        let page = retention::files(conn, prefix.id, after.as_ref(), PAGE).await?;
        after = page.last().map(|row| row.file);
        let full = page.len() == PAGE as usize;
        for row in &page {
            let facts = facts(&mut inventory, row)?;
            if let WalFile::Label { .. } = row.file {
                labelled_at.insert(row.file, facts.archived_at);
            }
            inventory.files.push(facts);
            rows.insert(row.file, row.id);
        }
        if !full {
            break;
        }
    }
    // Labels after the files: a base whose label was archived in between has young WAL.
    for row in labels::labels(conn, prefix.id).await? {
        // A label's own stop time is missing when the server's log time zone is not UTC,
        // and a server's clock can be wrong: the latest of all times is the careful one.
        let stopped_at = [row.label.stop_time, row.mtime]
            .into_iter()
            .chain([labelled_at.get(&row.file).copied()])
            .flatten()
            .max()
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        inventory.bases.push(Base {
            start_lsn: row.label.start_lsn,
            stop_lsn: row.label.stop_lsn,
            start_segment: row.label.start_segment,
            stop_segment: row.label.stop_segment,
            stopped_at,
            label: row.label.label,
            lies: Lies::Elsewhere,
            kept_until: None,
        });
    }
    ours(conn, prefix, &mut inventory).await?;
    for row in labels::histories(conn, prefix.id).await? {
        match History::parse(row.timeline, &row.content) {
            Ok(history) => inventory.histories.push(history),
            // As if it were missing: then more is kept, and the plan says why.
            Err(error) => tracing::warn!(
                timeline = %row.timeline,
                prefix = %prefix.key_prefix,
                error = %error,
                "a timeline's history cannot be read, more WAL than necessary is kept"
            ),
        }
    }
    Ok(Loaded { inventory, rows })
}

/// Our own bases, by their rows, which follow the buckets. The label of one of ours speaks of
/// the same base.
async fn ours(
    conn: &mut Conn,
    prefix: &Prefix,
    inventory: &mut Inventory,
) -> Result<(), LoadError> {
    for row in bases::list(conn, prefix.id).await? {
        let base = row.base;
        let in_label = format!("walferry {}", base.label);
        inventory
            .bases
            .retain(|known| known.label != in_label || known.start_lsn != base.start_lsn);
        let (mut complete, mut coming) = (RepositorySet::EMPTY, RepositorySet::EMPTY);
        for copy in &row.copies {
            let set = match copy.state {
                BaseCopyState::Complete => &mut complete,
                BaseCopyState::Dropped => &mut coming,
                BaseCopyState::Removed => continue,
            };
            *set = set.with(position(inventory, &copy.repository)?);
        }
        let size = base.segment_size;
        // The segment of the byte before the stop is the last that is needed.
        let end = Lsn::new(base.stop_lsn.get().saturating_sub(1)).max(base.start_lsn);
        inventory.bases.push(Base {
            start_lsn: base.start_lsn,
            stop_lsn: base.stop_lsn,
            start_segment: SegmentName::from_lsn(base.start_timeline, base.start_lsn, size),
            stop_segment: SegmentName::from_lsn(base.stop_timeline, end, size),
            stopped_at: base.stopped_at,
            label: base.label,
            lies: Lies::Here { complete, coming },
            kept_until: row
                .keep
                .map(|keep| keep.until.unwrap_or(DateTime::<Utc>::MAX_UTC)),
        });
    }
    Ok(())
}

fn position(inventory: &mut Inventory, repository: &RepositoryName) -> Result<usize, LoadError> {
    inventory
        .position(repository)
        .ok_or_else(|| LoadError::TooManyRepositories {
            prefix: inventory.key_prefix.clone(),
            repository: repository.clone(),
        })
}

fn facts(inventory: &mut Inventory, row: &RetentionFile) -> Result<FileFacts, LoadError> {
    let status = match row.status {
        FileStatus::Verified => Status::Verified,
        FileStatus::Expiring => Status::Expiring,
        FileStatus::Pending => Status::Unfinished,
    };
    let mut facts = FileFacts {
        file: row.file,
        status,
        // No time at all is no age at all.
        archived_at: row
            .verified_at
            .max(row.mtime)
            .unwrap_or(DateTime::<Utc>::MAX_UTC),
        busy: row.busy,
        verified: RepositorySet::EMPTY,
        due: RepositorySet::EMPTY,
        expiring: RepositorySet::EMPTY,
    };
    for copy in &row.copies {
        let position = position(inventory, &copy.repository)?;
        let set = match copy.state {
            CopyState::Verified => &mut facts.verified,
            CopyState::Due => &mut facts.due,
            CopyState::Expiring => &mut facts.expiring,
        };
        *set = set.with(position);
    }
    Ok(facts)
}
