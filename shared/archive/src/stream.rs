//! Files too large for a buffer: hashed in one pass, packed and sent in another, in bounded
//! memory whatever their size.
//!
//! The hash comes first because it goes into the objects' metadata, which S3 takes with the
//! first byte of a multipart upload. One packer feeds every repository through a short
//! channel; a repository that stands still for too long while another moves loses its place,
//! not its copy.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use walferry_catalog::{claims::Claim, completion};
use walferry_killpoint::kill_point;
use walferry_pack::pack::{PIECE, Packer};
use walferry_pack::pool::Scratch;
use walferry_proof::{Expected, ExpectedEtag, Hasher, Md5, Md5Hasher, ObjectKey, Sha256, Verified};
use walferry_spool::SpooledFile;
use walferry_store::{At, ReadRepository as _, Repository as _, StoreError};

use crate::{
    archiver::{Archiver, Served, Target},
    copied::Copied,
    leases::Lease,
    local::{self, Here, LocalError},
    owner::Owner,
    process::{self, ProcessError},
    stages::Spent,
    upload::{CopyError, Upload},
};

/// A repository for which the others have waited so long in all loses its place: a slow
/// cloud delays a fast one by this much for a file, however large the file is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pieces that wait in front of one repository.
const AHEAD: usize = 1;
/// Memory that streaming holds for one repository at most: the piece that waits, two parts
/// of 8 MiB on the wire and a third that is being filled.
pub(crate) const ROOM: u64 = 28 << 20;

pub(crate) struct Streamed<'a> {
    pub(crate) archiver: &'a Archiver,
    pub(crate) cluster: &'a Served,
    pub(crate) claim: &'a Claim,
    pub(crate) lease: &'a Lease,
    pub(crate) owner: &'a Owner,
    pub(crate) key: &'a ObjectKey,
    pub(crate) level: u8,
}

impl Streamed<'_> {
    /// Archives `here` into every repository of `due`; `None` when it holds other content
    /// than what is registered, and the claim has ended.
    pub(crate) async fn archive(
        &self,
        due: &[Target],
        here: &Here,
    ) -> Result<Option<Copied>, ProcessError> {
        let sha256 = local::hash(self.archiver, self.claim, here, self.lease.cancelled()).await?;
        let mut conn = self.archiver.0.catalog.get().await?;
        kill_point!("stream.content.before");
        // Before the first part: a crash right after leaves a row that tells later attempts how
        // to pack, so that what they send is identical.
        let recorded = completion::set_content(
            &mut conn,
            self.claim.token,
            sha256,
            here.stat.size,
            &process::encoder(self.level),
        )
        .await;
        drop(conn);
        if let Err(error @ walferry_catalog::CatalogError::Conflict { .. }) = recorded {
            self.archiver
                .quarantine_local(self.claim, self.lease, here, &error)
                .await?;
            return Ok(None);
        }
        recorded?;
        kill_point!("stream.content.after");
        let _memory = self.archiver.0.lanes.reserve(ROOM * due.len() as u64).await;
        let content = (sha256, here.stat.size);
        let metadata = process::metadata(self.cluster, self.owner, self.claim, content, self.level);
        let upload = Upload {
            pool: &self.archiver.0.pool,
            foreign: &self.archiver.0.foreign,
            lease: self.lease,
            key: self.key,
            metadata: &metadata,
            mode: self.archiver.0.settings.verify,
        };
        let mut senders = Vec::new();
        let mut uploads = FuturesUnordered::new();
        for target in due {
            let (sender, receiver) = mpsc::channel(AHEAD);
            let (told, facts) = tokio::sync::watch::channel(None);
            let out_of_patience = CancellationToken::new();
            senders.push(Feed {
                sender,
                patience: PATIENCE,
                told,
                out_of_patience: out_of_patience.clone(),
            });
            let upload = &upload;
            uploads.push(async move {
                let one = self.one(target, upload, receiver, facts, sha256, here.stat.size);
                // Parts that stand still see no end of their pieces.
                let result = tokio::select! {
                    biased;
                    result = one => result,
                    () = out_of_patience.cancelled() => Err(CopyError::NoRoom {
                        repository: target.name().clone(),
                    }),
                };
                (target.name().clone(), result)
            });
        }
        let feeding = self.feed(here, sha256, senders);
        let mut copied = Copied::nothing();
        let collecting = async {
            while let Some((name, result)) = uploads.next().await {
                copied.add(self.archiver, self.claim, name, result);
            }
        };
        let (fed, ()) = tokio::join!(feeding, collecting);
        fed?;
        copied.hashed = Some(here.clone());
        Ok(Some(copied))
    }

    async fn one(
        &self,
        target: &Target,
        upload: &Upload<'_>,
        receiver: mpsc::Receiver<Bytes>,
        mut facts: tokio::sync::watch::Receiver<Option<(u64, Md5)>>,
        sha256: Sha256,
        plain_size: u64,
    ) -> Result<Verified, CopyError> {
        let store = target.store.as_ref();
        let expected = |stored_size, stored_md5, etag| Expected {
            sha256,
            plain_size,
            stored_size,
            stored_md5,
            etag,
        };
        self.archiver
            .0
            .owners
            .ensure(store, &self.claim.prefix.key_prefix, self.owner)
            .await?;
        // Multipart uploads cannot be conditional everywhere: look first. Between the look
        // and the last part only this claim writes, and only this content.
        if store.head(self.key).await?.is_some() {
            drop(receiver);
            let unknown = Md5::from_bytes([0; 16]);
            return upload
                .adopt(store, &expected(0, unknown, ExpectedEtag::Single(unknown)))
                .await;
        }
        self.lease.check().await?;
        kill_point!("stream.put.before");
        let name = target.name().clone();
        let at = At::new(&name, "put", Some(self.key));
        let parts = futures::stream::unfold(
            (receiver, facts.clone(), false),
            move |(mut receiver, facts, ended)| {
                let at = at.clone();
                async move {
                    if ended {
                        return None;
                    }
                    match receiver.recv().await {
                        Some(piece) => Some((Ok(piece), (receiver, facts, false))),
                        // The packer ended: in order only if it says what it sent.
                        None if facts.borrow().is_some() => None,
                        None => Some((
                            Err(StoreError::Upload {
                                at,
                                source: "the packer stopped".into(),
                            }),
                            (receiver, facts, true),
                        )),
                    }
                }
            },
        );
        let etag = match store
            .put_parts(self.key, parts.boxed(), &upload.metadata.to_map())
            .await
        {
            Ok(etag) => etag,
            Err(StoreError::Upload { .. }) => {
                return Err(CopyError::NoRoom {
                    repository: target.name().clone(),
                });
            }
            Err(error) => return Err(error.into()),
        };
        kill_point!("stream.put.after");
        let Some((size, md5)) = *facts.borrow_and_update() else {
            return Err(CopyError::NoRoom {
                repository: target.name().clone(),
            });
        };
        upload
            .prove(
                store,
                &expected(size, md5, ExpectedEtag::Multipart { etag }),
                None,
            )
            .await
    }

    /// Reads, packs and hands on. Tells size and MD5 at the end, after the file was found
    /// unchanged; without that no repository completes its upload.
    async fn feed(
        &self,
        here: &Here,
        sha256: Sha256,
        mut senders: Vec<Feed>,
    ) -> Result<(), LocalError> {
        let mut packing = Packing {
            file: here.open(&self.claim.file, self.claim.prefix.system_id)?,
            gzip: Packer::new(self.level, here.stat.size)?,
            plain: Hasher::new(),
            stored: Md5Hasher::new(),
            read: 0,
            size: 0,
        };
        let mut ended = false;
        while !ended && !senders.is_empty() {
            let cancel = self.lease.cancelled().clone();
            let (next, piece, last) = self
                .archiver
                .0
                .pool
                .run(move |scratch| packing.step(scratch, &cancel))
                .await??;
            packing = next;
            ended = last;
            if !piece.is_empty() {
                senders = hand_on(senders, &piece).await;
            }
        }
        if ended {
            packing.file.unchanged().map_err(LocalError::Read)?;
            let (found, _) = packing.plain.finish();
            if found != sha256 {
                return Err(LocalError::Gone {
                    file: self.claim.file,
                });
            }
            let facts = (packing.size, packing.stored.finish());
            for feed in senders {
                let _ = feed.told.send(Some(facts));
            }
        }
        Ok(())
    }
}

/// The way to one repository's upload.
struct Feed {
    sender: mpsc::Sender<Bytes>,
    /// How long the others still wait for it.
    patience: Duration,
    /// Size and MD5, told at the end to those who were given everything: an upload that was
    /// left behind must not take the end of its pieces for the end of the object.
    told: tokio::sync::watch::Sender<Option<(u64, Md5)>>,
    /// The others wait for it no more.
    out_of_patience: CancellationToken,
}

/// Gives `piece` to each; drops those whose upload has ended or whose patience has.
async fn hand_on(feeds: Vec<Feed>, piece: &Bytes) -> Vec<Feed> {
    let (first_has_it, since) = (&CancellationToken::new(), &OnceLock::new());
    let sends = feeds.into_iter().map(|feed| async move {
        tokio::select! {
            biased;
            sent = feed.sender.send(piece.clone()) => sent.ok()?,
            () = async {
                first_has_it.cancelled().await;
                tokio::time::sleep(feed.patience).await;
            } => {
                feed.out_of_patience.cancel();
                return None;
            }
        }
        let waited = since.get_or_init(Instant::now).elapsed();
        first_has_it.cancel();
        Some(Feed {
            patience: feed.patience.saturating_sub(waited),
            ..feed
        })
    });
    futures::future::join_all(sends)
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// Moves onto a packing thread for each piece and back.
struct Packing {
    file: SpooledFile,
    gzip: Packer,
    plain: Hasher,
    stored: Md5Hasher,
    read: u64,
    size: u64,
}

impl Packing {
    /// What came of one more piece, which may be nothing, and whether it was the last.
    fn step(
        mut self,
        scratch: &mut Scratch,
        cancel: &CancellationToken,
    ) -> Result<(Self, Bytes, bool), LocalError> {
        let Scratch { plain, bench } = scratch;
        plain.resize(PIECE, 0);
        let mut spent = Spent::default();
        let (file, hasher) = (&self.file, &mut self.plain);
        let length = local::read_hashed(file, self.read, plain, hasher, &mut spent, cancel)?;
        let ended = length < PIECE;
        if length > 0 {
            self.gzip.add(bench, &plain[..length])?;
        }
        let out = if ended {
            self.gzip.finish(bench)?
        } else {
            self.gzip.take()
        };
        self.read += length as u64;
        self.stored.update(&out);
        self.size += out.len() as u64;
        Ok((self, out, ended))
    }
}
