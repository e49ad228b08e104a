//! gzip: an ordinary file (RFC 1952) without name or time, so that the same input,
//! encoder and level give the same bytes, and a repeated upload is identical.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use libdeflater::{CompressionLvl, Compressor};
use walferry_proof::Md5;

use crate::pool::Scratch;

/// Which implementation of deflate makes the bytes. Written to the catalog before
/// the first PUT and into the metadata of each object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// libdeflate: whole buffers, the size of zlib 9 at a fraction of the work.
    Libdeflate,
    /// zlib-rs through `flate2`: streams, for files too large for a buffer.
    ZlibRs,
}

impl Encoder {
    /// The encoder for a file of `size` bytes when whole buffers are allowed up to `whole` bytes.
    #[must_use]
    pub fn for_size(size: u64, whole: u64) -> Self {
        if size <= whole {
            Self::Libdeflate
        } else {
            Self::ZlibRs
        }
    }

    /// The name kept in catalog and metadata.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Libdeflate => "libdeflate",
            Self::ZlibRs => "zlib-rs",
        }
    }

    /// The encoder of that name; `None` when this version does not have it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Libdeflate, Self::ZlibRs]
            .into_iter()
            .find(|encoder| encoder.as_str() == name)
    }
}

/// A compressed file in memory.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The gzip file.
    pub body: Bytes,
    /// MD5 of `body`: the ETag of a single PUT.
    pub md5: Md5,
}

/// Packs `scratch.plain` at `level` (1 to 9) with libdeflate.
///
/// # Errors
/// When the level is out of range.
pub fn pack_whole(scratch: &mut Scratch, level: u8) -> Result<Packed, PackError> {
    let lvl = CompressionLvl::new(i32::from(level)).map_err(|_| PackError::Level { level })?;
    let Scratch {
        plain,
        packed,
        encoder,
    } = scratch;
    if encoder.as_ref().is_none_or(|(at, _)| *at != level) {
        *encoder = Some((level, Compressor::new(lvl)));
    }
    let (_, compressor) = encoder.as_mut().ok_or(PackError::Level { level })?;
    let bound = compressor.gzip_compress_bound(plain.len());
    if packed.len() < bound {
        packed.resize(bound, 0);
    }
    let size = compressor
        .gzip_compress(plain, packed)
        .map_err(|_| PackError::Room { bound })?;
    let body = Bytes::copy_from_slice(&packed[..size]);
    let md5 = walferry_proof::md5(&body);
    Ok(Packed { body, md5 })
}

/// A gzip writer that streams with zlib-rs at `level` (1 to 9).
pub fn stream_encoder<W: Write>(sink: W, level: u8) -> flate2::write::GzEncoder<W> {
    GzBuilder::new().write(sink, Compression::new(u32::from(level.min(9))))
}

/// A file could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// gzip knows the levels 1 to 9.
    #[error("compression level {level} is not one of 1 to 9")]
    Level {
        /// The level asked for.
        level: u8,
    },
    /// The streaming encoder failed: a defect of it, since it writes to memory.
    #[error("pack a piece")]
    Stream(#[source] std::io::Error),
    /// The encoder's own bound was too small: a defect of the encoder.
    #[error("the encoder did not fit its output into its own bound of {bound} bytes")]
    Room {
        /// The bound in bytes.
        bound: usize,
    },
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_same_input_gives_the_same_bytes_and_unpacks_to_itself() {
        let mut scratch = Scratch {
            plain: b"walferry ".repeat(10_000),
            ..Scratch::default()
        };
        let first = pack_whole(&mut scratch, 9).expect("level 9 packs");
        let again = pack_whole(&mut scratch, 9).expect("level 9 packs");
        assert_eq!(first.body, again.body);
        // RFC 1952: flags 0 (no name), mtime 0.
        assert_eq!(&first.body[3..8], &[0, 0, 0, 0, 0]);
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&first.body[..])
            .read_to_end(&mut plain)
            .expect("gzip reads it");
        assert_eq!(plain, scratch.plain);
    }

    /// Rows of a table with numbers that do not repeat.
    fn rows() -> Vec<u8> {
        let mut state = 1_u32;
        (0..20_000)
            .flat_map(|row| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                format!("heap/UPDATE rel 1663/16384 blk {row:06} balance {state:010} ").into_bytes()
            })
            .collect()
    }

    #[test]
    fn a_higher_level_packs_smaller_whatever_the_encoder() {
        let plain = rows();
        let whole = |level| {
            let mut scratch = Scratch {
                plain: plain.clone(),
                ..Scratch::default()
            };
            let packed = pack_whole(&mut scratch, level).expect("it packs");
            packed.body.len()
        };
        let streamed = |level| {
            let mut encoder = stream_encoder(Vec::new(), level);
            encoder.write_all(&plain).expect("memory takes it");
            encoder.finish().expect("memory takes it").len()
        };
        assert!(whole(1) > whole(6) && whole(6) > whole(9));
        assert!(streamed(1) > streamed(6) && streamed(6) > streamed(9));
    }

    #[test]
    fn the_streaming_encoder_writes_neither_name_nor_time() {
        let mut encoder = stream_encoder(Vec::new(), 9);
        encoder.write_all(b"walferry").expect("memory takes it");
        let body = encoder.finish().expect("memory takes it");
        assert_eq!(&body[3..8], &[0, 0, 0, 0, 0]);
    }
}
