//! The file as it lies in the archive directory: reading it, packing it, deleting it.

use std::{path::PathBuf, time::Instant};

use tokio_util::sync::CancellationToken;
use walferry_catalog::{
    CatalogError, DirectoryId, claims::Claim, completion::Archived, intake::LocalStat, labels,
};
use walferry_killpoint::kill_point;
use walferry_pack::pack::{PIECE, PackError, Packed, Packer};
use walferry_pack::pool::{PoolGone, Scratch};
use walferry_proof::{Hasher, Sha256};
use walferry_spool::{
    Content, DeleteError, Deleted, Directory, DirectoryError, FileId, InspectError, Inspected,
    OpenError, ReadError, SpooledFile, StreamError,
};
use walferry_wal::{History, Label, WalFile};

use crate::{
    archiver::{Archiver, Served},
    leases::{Lease, LeaseLost},
    process::ProcessError,
    stages::Spent,
};

/// Bytes read, and hashed while the processor's cache holds them, between two looks at the
/// cancellation token.
const STEP: usize = 256 << 10;

/// A local file of a claim in a directory that this worker serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Here {
    /// The directory's row.
    pub directory: DirectoryId,
    /// The directory.
    pub path: PathBuf,
    /// The file as it was registered.
    pub stat: LocalStat,
}

/// The local file cannot be archived as it lies there.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The directory is not there.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// It vanished, or another file lies under its name: the next scan registers what is there.
    #[error("`{file}` is not the file that was registered; it is looked at again")]
    Gone {
        /// Which file.
        file: WalFile,
    },
    /// Its content is not what its name says.
    #[error(transparent)]
    Inspect(InspectError),
    /// It changed while it was read.
    #[error(transparent)]
    Read(ReadError),
    /// It could not be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The packing threads have gone.
    #[error(transparent)]
    Pool(#[from] PoolGone),
    /// The claim was lost or given up while the file was read.
    #[error("reading was cancelled")]
    Cancelled,
    /// It could not be deleted.
    #[error(transparent)]
    Delete(#[from] DeleteError),
    /// A task of ours panicked.
    #[error("the deleting task ended")]
    Join(#[from] tokio::task::JoinError),
}

/// A file in memory: what it is and its gzip form.
#[derive(Debug)]
pub struct PackedFile {
    /// Of the uncompressed file.
    pub sha256: Sha256,
    /// Of the uncompressed file.
    pub plain_size: u64,
    /// The gzip file.
    pub gzip: Packed,
    /// What a history or label file says.
    pub knowledge: Knowledge,
    pub(crate) spent: Spent,
}

/// What a file says about timelines and base backups.
#[derive(Debug)]
pub enum Knowledge {
    /// Segments say nothing.
    Nothing,
    /// Where a timeline began, with the file's bytes.
    History(History, Vec<u8>),
    /// That a base backup was made.
    Label(Label),
}

impl Here {
    fn id(&self) -> FileId {
        FileId::recorded(
            self.stat.dev,
            self.stat.ino,
            self.stat.size,
            self.stat.mtime_ns,
        )
    }

    /// Opens the file, checks it against its name and system, and makes sure that it is the
    /// one that was registered.
    fn inspect(
        &self,
        claim_file: &WalFile,
        system: Option<walferry_wal::SystemId>,
    ) -> Result<Inspected, LocalError> {
        let directory = Directory::open(&self.path)?;
        let gone = || LocalError::Gone { file: *claim_file };
        let inspected = walferry_spool::inspect(&directory, claim_file, system).map_err(
            |error| match error {
                InspectError::Open(OpenError::Gone { .. }) => gone(),
                error => LocalError::Inspect(error),
            },
        )?;
        if self.id().unchanged(inspected.file.id()) {
            Ok(inspected)
        } else {
            Err(gone())
        }
    }
}

impl Here {
    /// Opens the file that was registered, checked against its name.
    ///
    /// # Errors
    /// [`LocalError`]; [`LocalError::Gone`] when another file lies there.
    pub(crate) fn open(
        &self,
        file: &WalFile,
        system: Option<walferry_wal::SystemId>,
    ) -> Result<SpooledFile, LocalError> {
        Ok(self.inspect(file, system)?.file)
    }
}

/// The share of a directory's file system that is used, 0 to 1; 0 when it cannot be told.
pub(crate) fn share(path: &std::path::Path) -> f64 {
    Directory::open(path)
        .ok()
        .and_then(|directory| walferry_spool::usage(&directory).ok())
        .map_or(0.0, |usage| usage.share)
}

/// The claim's local files that this worker can reach.
///
/// Those whose directory is there come first: the same file on a disk that is away must not
/// hide the one that can be read.
pub(crate) fn served(cluster: &Served, claim: &Claim) -> Vec<Here> {
    let mut here: Vec<Here> = claim
        .local
        .iter()
        .filter_map(|local| {
            let directory = cluster
                .directories
                .iter()
                .find(|directory| directory.id == local.directory)?;
            Some(Here {
                directory: local.directory,
                path: directory.path.clone(),
                stat: local.stat,
            })
        })
        .collect();
    here.sort_by_key(|file| !file.path.is_dir());
    here
}

/// Reads, checks, hashes and packs a file that fits into memory.
pub(crate) async fn pack(
    archiver: &Archiver,
    claim: &Claim,
    here: &Here,
    level: u8,
    cancel: &CancellationToken,
) -> Result<PackedFile, LocalError> {
    let (here, file, system, cancel) = (
        here.clone(),
        claim.file,
        claim.prefix.system_id,
        cancel.clone(),
    );
    archiver
        .0
        .pool
        .run(move |scratch| {
            let inspected = here.inspect(&file, system)?;
            let Scratch { plain, bench } = scratch;
            plain.resize(PIECE, 0);
            let mut hasher = Hasher::new();
            let mut packer = Packer::new(level, here.stat.size)?;
            let (mut read, mut last, mut spent) = (0, 0, Spent::default());
            while read < here.stat.size {
                last = read_hashed(
                    &inspected.file,
                    read,
                    plain,
                    &mut hasher,
                    &mut spent,
                    &cancel,
                )?;
                if last == 0 {
                    break;
                }
                read += last as u64;
                let began = Instant::now();
                packer.add(bench, &plain[..last])?;
                spent.compress += began.elapsed();
            }
            // What was read counts only if nobody wrote or cut meanwhile.
            inspected.file.unchanged().map_err(LocalError::Read)?;
            let (sha256, plain_size) = hasher.finish();
            let began = Instant::now();
            let body = packer.finish(bench)?;
            spent.compress += began.elapsed();
            let began = Instant::now();
            let md5 = walferry_proof::md5(&body);
            spent.md5 = began.elapsed();
            let gzip = Packed { body, md5 };
            let knowledge = match inspected.content {
                // It is smaller than a piece.
                Content::History(history) => Knowledge::History(history, plain[..last].to_vec()),
                Content::Label(label) => Knowledge::Label(label),
                Content::Pages { .. } => Knowledge::Nothing,
            };
            Ok(PackedFile {
                sha256,
                plain_size,
                gzip,
                knowledge,
                spent,
            })
        })
        .await?
}

/// Fills `buffer` from `offset` on, less at the end of the file, and hashes what it reads; a
/// claim that was lost is noticed between steps.
pub(crate) fn read_hashed(
    file: &SpooledFile,
    offset: u64,
    buffer: &mut [u8],
    hasher: &mut Hasher,
    spent: &mut Spent,
    cancel: &CancellationToken,
) -> Result<usize, LocalError> {
    let mut have = 0;
    for step in buffer.chunks_mut(STEP) {
        if cancel.is_cancelled() {
            return Err(LocalError::Cancelled);
        }
        let (wanted, began) = (step.len(), Instant::now());
        let piece = file
            .piece(offset + have as u64, step)
            .map_err(LocalError::Read)?;
        let read = Instant::now();
        hasher.update(piece);
        spent.read += read.duration_since(began);
        spent.hash += read.elapsed();
        have += piece.len();
        if piece.len() < wanted {
            break;
        }
    }
    Ok(have)
}

/// Reads, checks and hashes a file of any size.
pub(crate) async fn hash(
    archiver: &Archiver,
    claim: &Claim,
    here: &Here,
    cancel: &CancellationToken,
) -> Result<Sha256, LocalError> {
    let (here, file, system, cancel) = (
        here.clone(),
        claim.file,
        claim.prefix.system_id,
        cancel.clone(),
    );
    archiver
        .0
        .pool
        .run(move |scratch| {
            let inspected = here.inspect(&file, system)?;
            let mut hasher = Hasher::new();
            scratch.plain.resize(STEP, 0);
            inspected
                .file
                .stream(&mut scratch.plain, |piece| {
                    hasher.update(piece);
                    if cancel.is_cancelled() {
                        Err(())
                    } else {
                        Ok(())
                    }
                })
                .map_err(|error| match error {
                    StreamError::Read(error) => LocalError::Read(error),
                    StreamError::Stopped(()) => LocalError::Cancelled,
                })?;
            Ok(hasher.finish().0)
        })
        .await?
}

/// Catalogs what a history or label file says, before its copies are complete: retention
/// must know of a base backup no later than of its label's archiving.
pub(crate) async fn record_knowledge(
    archiver: &Archiver,
    claim: &Claim,
    packed: &PackedFile,
) -> Result<(), CatalogError> {
    match &packed.knowledge {
        Knowledge::Nothing => Ok(()),
        Knowledge::History(history, bytes) => {
            let mut conn = archiver.0.catalog.get().await?;
            labels::insert_history(&mut conn, claim.prefix.id, history.timeline, bytes).await?;
            kill_point!("archive-history.record.after");
            Ok(())
        }
        Knowledge::Label(label) => {
            let mut conn = archiver.0.catalog.get().await?;
            labels::insert_label(&mut conn, claim.token.file, label).await?;
            kill_point!("archive-label.record.after");
            Ok(())
        }
    }
}

/// Deletes every local file that is proven to hold what is archived, and tells where.
///
/// `hashed` is the one whose content this attempt knows; others are read first. One with
/// another content stays, is quarantined in place, and is a critical finding.
pub(crate) async fn delete_all(
    archiver: &Archiver,
    claim: &Claim,
    lease: &Lease,
    archived: &Archived,
    here: &[Here],
    hashed: Option<&Here>,
) -> Result<Vec<(DirectoryId, LocalStat)>, ProcessError> {
    let mut deleted = Vec::new();
    for file in here {
        if hashed != Some(file) {
            match hash(archiver, claim, file, lease.cancelled()).await {
                Ok(found) if found == archived.sha256() => {}
                Ok(found) => {
                    let conflict = CatalogError::Conflict {
                        name: claim.file.to_string(),
                        recorded: archived.sha256(),
                        found,
                    };
                    archiver.note_other_content(claim, file, &conflict).await?;
                    continue;
                }
                Err(LocalError::Gone { .. }) => {
                    deleted.push((file.directory, file.stat));
                    continue;
                }
                // It is away: what lies there is compared and deleted when it is back.
                Err(LocalError::Directory(_)) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        if delete(archived, lease, file).await? {
            deleted.push((file.directory, file.stat));
        }
    }
    Ok(deleted)
}

/// Unlinks one local file. Takes the proof: without a durable commit there is none.
async fn delete(archived: &Archived, lease: &Lease, here: &Here) -> Result<bool, ProcessError> {
    let (file, path, id) = (*archived.file(), here.path.clone(), here.id());
    let (holds, runtime) = (lease.holds(), tokio::runtime::Handle::current());
    // A crash before the unlink leaves the file and a VERIFIED row: the next claim compares
    // and deletes. A crash after it and before the row is updated leaves a row that names a
    // file which is gone: the next scan says so.
    let deleted = tokio::task::spawn_blocking(move || {
        let directory = Directory::open(&path)?;
        walferry_spool::delete_while(&directory, &file, &id, || {
            runtime.block_on(holds.check()).is_ok()
        })
        .map_err(LocalError::from)
    })
    .await
    .map_err(LocalError::from)??;
    Ok(match deleted {
        Deleted::Unlinked | Deleted::Gone => true,
        Deleted::Kept => return Err(LeaseLost::Lost.into()),
        Deleted::Replaced => {
            tracing::warn!(
                segment.name = %archived.file(),
                directory.path = %here.path.display(),
                "another file lies under this name now; it was put back and is looked at as a new one"
            );
            false
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_was_lost_is_read_no_further_and_all_that_is_read_is_hashed() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = "000000010000000000000001";
        let plain: Vec<u8> = (0..3 * STEP + 1).map(|n| (n % 251) as u8).collect();
        std::fs::write(folder.path().join(name), &plain).expect("a file");
        let directory = Directory::open(folder.path()).expect("a directory");
        let file = walferry_spool::open_checked(&directory, &name.parse().expect("a name"))
            .expect("a file");
        let (cancel, mut hasher) = (CancellationToken::new(), Hasher::new());
        let mut buffer = vec![0; 2 * STEP];
        let mut read = |offset, hasher: &mut Hasher| {
            read_hashed(
                &file,
                offset,
                &mut buffer,
                hasher,
                &mut Spent::default(),
                &cancel,
            )
        };
        assert_eq!(read(0, &mut hasher).expect("it reads"), 2 * STEP);
        assert_eq!(
            read(2 * STEP as u64, &mut hasher).expect("it reads"),
            STEP + 1
        );
        assert_eq!(
            hasher.finish(),
            (walferry_proof::sha256(&plain), plain.len() as u64)
        );
        cancel.cancel();
        let again = read_hashed(
            &file,
            0,
            &mut buffer,
            &mut Hasher::new(),
            &mut Spent::default(),
            &cancel,
        );
        assert!(matches!(again, Err(LocalError::Cancelled)));
    }
}
