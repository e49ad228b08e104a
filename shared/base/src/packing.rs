//! Slices and the manifest, packed and hashed on packing threads.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use walferry_layout::base::Slice;
use walferry_pack::pack::{PIECE, PackError, Packer};
use walferry_pack::pool::{PackPool, PoolGone};
use walferry_proof::{Expected, ExpectedEtag, Hasher};

use crate::slicer::Cut;

/// PostgreSQL's manifest is JSON, without runs of zeros, so its size need not be known before.
const UNKNOWN: u64 = 1 << 40;

/// Packing failed: a defect, not content's fault.
#[derive(Debug, thiserror::Error)]
pub enum PackingError {
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Pool(#[from] PoolGone),
}

/// A slice on its way to the repositories.
pub(crate) struct Packed {
    pub(crate) slice: Slice,
    pub(crate) body: Bytes,
    /// Its share of the memory: given back when the last repository has let go of it.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

/// `backup_manifest`, packed.
#[derive(Clone)]
pub(crate) struct PackedManifest {
    pub(crate) body: Bytes,
    pub(crate) expected: Expected,
}

/// Packs a slice; `room` shrinks to what it is packed.
pub(crate) async fn pack(
    pool: &PackPool,
    level: u8,
    cut: Cut,
    room: Option<OwnedSemaphorePermit>,
) -> Result<Packed, PackingError> {
    // `room` goes along: were it given back when this future is dropped, the slice would still
    // lie in the thread that packs it.
    let packed = pool.run(move |scratch| -> Result<_, PackingError> {
        let plain = cut.bytes;
        let mut packer = Packer::new(level, plain.len() as u64)?;
        let mut hasher = Hasher::new();
        for piece in plain.chunks(PIECE) {
            hasher.update(piece);
            packer.add(&mut scratch.bench, piece)?;
        }
        drop(plain);
        let body = packer.finish(&mut scratch.bench)?;
        let (sha256, size) = hasher.finish();
        let slice = Slice {
            archive: cut.archive,
            number: cut.number,
            stored_size: body.len() as u64,
            stored_md5: walferry_proof::md5(&body),
            size,
            sha256,
        };
        let room = room.and_then(|mut room| {
            let keep = units(body.len()).min(u32::try_from(room.num_permits()).unwrap_or(u32::MAX));
            room.split(keep as usize)
        });
        Ok(Packed {
            slice,
            body,
            _room: room,
        })
    });
    packed.await?
}

/// Memory is counted in KiB, which a semaphore can count up to 4 TiB.
pub(crate) fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// What a repository must report about a slice.
pub(crate) fn expected(slice: &Slice) -> Expected {
    Expected {
        sha256: slice.sha256,
        plain_size: slice.size,
        stored_size: slice.stored_size,
        stored_md5: slice.stored_md5,
        etag: ExpectedEtag::Single(slice.stored_md5),
    }
}

/// Packs the manifest while it arrives: of a large database it is large as well.
pub(crate) struct ManifestPacker {
    buffer: Vec<u8>,
    state: State,
}

struct State {
    packer: Packer,
    hasher: Hasher,
}

impl ManifestPacker {
    pub(crate) fn new(level: u8) -> Result<Self, PackingError> {
        Ok(Self {
            buffer: Vec::new(),
            state: State {
                packer: Packer::new(level, UNKNOWN)?,
                hasher: Hasher::new(),
            },
        })
    }

    pub(crate) async fn push(
        mut self,
        pool: &PackPool,
        bytes: &[u8],
    ) -> Result<Self, PackingError> {
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= PIECE {
            let rest = self.buffer.split_off(PIECE);
            let piece = std::mem::replace(&mut self.buffer, rest);
            self.state = self.state.add(pool, piece).await?;
        }
        Ok(self)
    }

    pub(crate) async fn finish(self, pool: &PackPool) -> Result<PackedManifest, PackingError> {
        let mut state = self.state.add(pool, self.buffer).await?;
        let packed = pool.run(move |scratch| -> Result<_, PackingError> {
            let body = state.packer.finish(&mut scratch.bench)?;
            let (sha256, plain_size) = state.hasher.finish();
            let stored_md5 = walferry_proof::md5(&body);
            Ok(PackedManifest {
                expected: Expected {
                    sha256,
                    plain_size,
                    stored_size: body.len() as u64,
                    stored_md5,
                    etag: ExpectedEtag::Single(stored_md5),
                },
                body,
            })
        });
        packed.await?
    }
}

impl State {
    async fn add(mut self, pool: &PackPool, piece: Vec<u8>) -> Result<Self, PackingError> {
        let added = pool.run(move |scratch| -> Result<_, PackingError> {
            self.hasher.update(&piece);
            self.packer.add(&mut scratch.bench, &piece)?;
            Ok(self)
        });
        added.await?
    }
}
