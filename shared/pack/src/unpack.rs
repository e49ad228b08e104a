//! Unpacking an object without keeping it: what are its bytes, and what do they hold?
//!
//! The decoder moves onto a packing thread for each buffer and back, so a cloud that
//! trickles holds no thread, and cancelling takes effect between buffers.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use futures::{Stream, StreamExt};
use walferry_proof::{Hasher, Md5, Md5Hasher, Sha256};
use walferry_store::StoreError;

use crate::pool::{PackPool, PoolGone};

/// The largest file that a segment can be (1 GiB, PostgreSQL `xlog_internal.h`,
/// `IsValidWalSegSize`): what unpacks to more is not ours, and may be a bomb.
const LARGEST_PLAIN: u64 = 1 << 30;
const BUFFER: usize = 1 << 20;

/// So much of the uncompressed file is kept: a page header, or a whole history or label file.
const HEAD: usize = 16 << 10;

/// What an object really holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The first bytes of what it unpacks to, at most 16 KiB.
    pub head: Bytes,
    /// Size of the object in bytes.
    pub stored_size: u64,
    /// MD5 of the object.
    pub stored_md5: Md5,
    /// SHA-256 of what it unpacks to.
    pub plain_sha256: Sha256,
    /// Size of what it unpacks to.
    pub plain_size: u64,
}

/// An object could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The cloud failed while it was read.
    #[error("read the object back")]
    Store(#[source] StoreError),
    /// It is no gzip file, or a damaged one, or unpacks to more than a segment can hold.
    #[error("the object does not unpack")]
    Damaged(#[source] io::Error),
    /// The packing threads have gone.
    #[error(transparent)]
    Pool(#[from] PoolGone),
}

/// Reads `body` into memory, at most `limit` bytes of it.
///
/// # Errors
/// [`UnpackError::Store`], and [`UnpackError::Damaged`] when there is more.
pub async fn collect(
    body: impl Stream<Item = Result<Bytes, StoreError>> + Unpin,
    limit: u64,
) -> Result<Bytes, UnpackError> {
    let mut body = body;
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(UnpackError::Store)?;
        if whole.len() as u64 + chunk.len() as u64 > limit {
            return Err(UnpackError::Damaged(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it has more than {limit} bytes"),
            )));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// Reads `body` to its end and tells what it holds, without keeping it.
///
/// # Errors
/// [`UnpackError`]; nothing is left behind.
pub async fn contents(
    pool: &PackPool,
    body: impl Stream<Item = Result<Bytes, StoreError>> + Unpin,
) -> Result<Contents, UnpackError> {
    let mut body = body;
    let mut unpacker = Unpacker::new();
    let mut buffer = BytesMut::with_capacity(BUFFER);
    loop {
        let chunk = body.next().await.transpose().map_err(UnpackError::Store)?;
        let ended = chunk.is_none();
        if let Some(chunk) = chunk {
            buffer.extend_from_slice(&chunk);
        }
        if !buffer.is_empty() && (ended || buffer.len() >= BUFFER) {
            let full = buffer.split().freeze();
            unpacker = pool
                .run(move |_| unpacker.feed(&full))
                .await?
                .map_err(UnpackError::Damaged)?;
        }
        if ended {
            return pool
                .run(move |_| unpacker.finish())
                .await?
                .map_err(UnpackError::Damaged);
        }
    }
}

/// An incremental check of a gzip stream.
pub struct Unpacker {
    decoder: MultiGzDecoder<PlainSink>,
    md5: Md5Hasher,
    stored: u64,
}

impl Unpacker {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            decoder: MultiGzDecoder::new(PlainSink {
                hasher: Hasher::new(),
                size: 0,
                head: Vec::new(),
            }),
            md5: Md5Hasher::new(),
            stored: 0,
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When they are not gzip, or unpack to more than a segment can hold.
    pub fn feed(mut self, bytes: &[u8]) -> io::Result<Self> {
        self.stored += bytes.len() as u64;
        self.md5.update(bytes);
        self.decoder.write_all(bytes)?;
        Ok(self)
    }

    /// All bytes were fed.
    ///
    /// # Errors
    /// When the stream ends in mid-file or its checksum is wrong.
    pub fn finish(self) -> io::Result<Contents> {
        if self.stored == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the object is empty",
            ));
        }
        let sink = self.decoder.finish()?;
        let (plain_sha256, plain_size) = sink.hasher.finish();
        Ok(Contents {
            head: sink.head.into(),
            stored_size: self.stored,
            stored_md5: self.md5.finish(),
            plain_sha256,
            plain_size,
        })
    }
}

impl Default for Unpacker {
    fn default() -> Self {
        Self::new()
    }
}

struct PlainSink {
    hasher: Hasher,
    size: u64,
    head: Vec<u8>,
}

impl Write for PlainSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size += bytes.len() as u64;
        if self.size > LARGEST_PLAIN {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it unpacks to more than 1 GiB, more than a segment can hold",
            ));
        }
        let room = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{Bench, Packer};

    fn packed(plain: &[u8]) -> Bytes {
        let mut bench = Bench::default();
        let mut packer = Packer::new(6, plain.len() as u64).expect("a level of gzip");
        packer.add(&mut bench, plain).expect("it packs");
        packer.finish(&mut bench).expect("it packs")
    }

    async fn check(body: Bytes) -> Result<Contents, UnpackError> {
        let pool = PackPool::start(1).expect("threads can be started");
        contents(&pool, futures::stream::iter([Ok(body)])).await
    }

    #[tokio::test]
    async fn a_packed_file_unpacks_to_its_hash() {
        let plain = b"segment".repeat(300_000);
        let found = check(packed(&plain)).await.expect("it unpacks");
        assert_eq!(found.plain_sha256, walferry_proof::sha256(&plain));
        assert_eq!(found.plain_size, plain.len() as u64);
    }

    #[tokio::test]
    async fn a_flipped_bit_a_cut_and_an_empty_object_do_not_unpack() {
        let body = packed(&b"segment".repeat(1000));
        let mut flipped = body.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        for damaged in [flipped.into(), body.slice(..body.len() - 3), Bytes::new()] {
            assert!(matches!(check(damaged).await, Err(UnpackError::Damaged(_))));
        }
    }
}
