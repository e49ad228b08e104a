//! From a stream of gzip to a file, with everything that is to be compared on the way.

use std::fs::File;
use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use walferry_proof::{Hasher, Sha256};

/// What was unpacked.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) size: u64,
    pub(crate) sha256: Sha256,
    /// CRC-32C of it all.
    pub(crate) crc32c: u32,
    /// The first bytes, as many as were to be kept.
    pub(crate) head: Vec<u8>,
}

/// Unpacks into a file. Not for the async runtime: it decompresses, hashes and writes.
pub(crate) struct Unpacker {
    decoder: MultiGzDecoder<Sink>,
    packed: u64,
}

/// It does not unpack, or cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackerError {
    /// The object's fault.
    #[error("it does not unpack")]
    Damaged(#[source] io::Error),
    /// This machine's.
    #[error("cannot write")]
    Write(#[source] io::Error),
}

impl Unpacker {
    /// Keeps the first `keep` bytes; more than `limit` are refused before they are written.
    pub(crate) fn new(file: File, keep: usize, limit: u64) -> Self {
        Self {
            decoder: MultiGzDecoder::new(Sink {
                file,
                hasher: Hasher::new(),
                size: 0,
                crc32c: 0,
                head: Vec::new(),
                keep,
                limit,
                failed: None,
            }),
            packed: 0,
        }
    }

    pub(crate) fn feed(&mut self, bytes: &Bytes) -> Result<(), UnpackerError> {
        self.packed += bytes.len() as u64;
        match self.decoder.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.sorted(error)),
        }
    }

    /// Everything was fed.
    pub(crate) fn finish(mut self) -> Result<Unpacked, UnpackerError> {
        if self.packed == 0 {
            let empty = io::Error::new(io::ErrorKind::UnexpectedEof, "the object is empty");
            return Err(UnpackerError::Damaged(empty));
        }
        if let Err(error) = self.decoder.try_finish() {
            return Err(self.sorted(error));
        }
        let sink = match self.decoder.finish() {
            Ok(sink) => sink,
            Err(error) => return Err(UnpackerError::Damaged(error)),
        };
        let (sha256, size) = sink.hasher.finish();
        Ok(Unpacked {
            size,
            sha256,
            crc32c: sink.crc32c,
            head: sink.head,
        })
    }

    fn sorted(&mut self, error: io::Error) -> UnpackerError {
        match self.decoder.get_mut().failed.take() {
            Some(error) => UnpackerError::Write(error),
            None => UnpackerError::Damaged(error),
        }
    }
}

struct Sink {
    file: File,
    hasher: Hasher,
    size: u64,
    crc32c: u32,
    head: Vec<u8>,
    keep: usize,
    limit: u64,
    /// Why the file could not be written: no fault of the object.
    failed: Option<io::Error>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size + bytes.len() as u64 > self.limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it unpacks to more than {} bytes", self.limit),
            ));
        }
        if let Err(error) = self.file.write_all(bytes) {
            let told = io::Error::other("the file cannot be written");
            self.failed = Some(error);
            return Err(told);
        }
        self.size += bytes.len() as u64;
        let room = self.keep.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.hasher.update(bytes);
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
