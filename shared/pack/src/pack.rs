//! gzip: an ordinary file (RFC 1952) without name or time, so that the same input
//! and level give the same bytes, and a repeated upload is identical.
//!
//! A file becomes a few members, one after the other, as RFC 1952 allows
//! and every gunzip reads: one for each piece of 4 MiB, by the encoder that fits its content,
//! and one for a run of zeros at the end of a piece.

mod fit;
mod zeros;

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use walferry_proof::Md5;

use self::fit::{Encoders, Fit};

/// Content of one member at most, and what is read at once.
pub const PIECE: usize = 4 << 20;
/// So many zeros at the end of a piece are worth a member of their own, which costs 50 bytes.
const WORTH_A_MEMBER: usize = 32 << 10;
/// Memory of a packed piece that a packing thread keeps for the next one.
const WORTH_KEEPING: usize = 2 << 20;
/// Magic, deflate, no flags, no time, no level, unknown system (RFC 1952, 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The name of how files are packed here, kept in the catalog before the first PUT and in the
/// metadata of each object. What bears another one was packed by an earlier version.
pub const ENCODER: &str = "fitted";

/// A compressed file in memory.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The gzip file.
    pub body: Bytes,
    /// MD5 of `body`: the ETag of a single PUT.
    pub md5: Md5,
}

/// Buffers and encoders of one packing thread, used from file to file.
#[derive(Default)]
pub struct Bench {
    encoders: Encoders,
    room: Vec<u8>,
}

/// Packs a file whose pieces are given in order.
pub struct Packer {
    level: u8,
    body: Vec<u8>,
    /// No member was made yet.
    empty: bool,
    /// Bytes of the file that were not added yet.
    left: u64,
    /// Zeros that no member tells yet.
    zeros: u64,
}

impl Packer {
    /// A file of `size` bytes, of which none was given yet, to be no larger than zlib makes
    /// it at `level`.
    ///
    /// # Errors
    /// When the level is none of 1 to 9.
    pub fn new(level: u8, size: u64) -> Result<Self, PackError> {
        if !(1..=9).contains(&level) {
            return Err(PackError::Level { level });
        }
        Ok(Self {
            level,
            body: Vec::new(),
            empty: true,
            left: size,
            zeros: 0,
        })
    }

    /// Adds `piece`, which is [`PIECE`] bytes unless it is the last one: with other cuts the
    /// bytes differ.
    ///
    /// # Errors
    /// Defects of an encoder.
    pub fn add(&mut self, bench: &mut Bench, piece: &[u8]) -> Result<(), PackError> {
        self.left = self.left.saturating_sub(piece.len() as u64);
        let content = self.content(piece);
        if !content.is_empty() {
            self.end_zeros();
            self.member(bench, content)?;
        }
        self.zeros += (piece.len() - content.len()) as u64;
        Ok(())
    }

    /// What was packed since it was last taken: for files that are sent while they are packed.
    pub fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.body))
    }

    /// The gzip file, or what was not taken of it. Nothing can be added any more.
    ///
    /// # Errors
    /// Defects of an encoder.
    pub fn finish(&mut self, bench: &mut Bench) -> Result<Bytes, PackError> {
        self.end_zeros();
        if self.empty {
            self.member(bench, &[])?;
        }
        Ok(self.take())
    }

    /// `piece` without the zeros at its end that go into a member of their own.
    fn content<'p>(&self, piece: &'p [u8]) -> &'p [u8] {
        let filled = filled(piece);
        let zeros = piece.len() - filled;
        if filled == 0 {
            return &[];
        }
        if zeros < WORTH_A_MEMBER {
            return piece;
        }
        // If all that follows is zeros, they are a whole number of matches behind the first.
        let follow = self.left + zeros as u64;
        let odd = usize::try_from((follow - 1) % zeros::MATCH).unwrap_or(0);
        &piece[..filled + odd]
    }

    fn end_zeros(&mut self) {
        if self.zeros > 0 {
            zeros::member(std::mem::take(&mut self.zeros), &mut self.body);
            self.empty = false;
        }
    }

    fn member(&mut self, bench: &mut Bench, content: &[u8]) -> Result<(), PackError> {
        self.empty = false;
        let level = match bench.encoders.fit(content, self.level) {
            Fit::Libdeflate(level) => level,
            Fit::Zlib => {
                let mut encoder = zlib(&mut self.body, self.level);
                encoder.write_all(content).map_err(PackError::Stream)?;
                encoder.finish().map_err(PackError::Stream)?;
                return Ok(());
            }
        };
        let encoder = bench.encoders.libdeflate(level);
        let bound = encoder.gzip_compress_bound(content.len());
        let room = &mut bench.room;
        if room.len() < bound {
            *room = vec![0; bound];
        }
        let size = encoder
            .gzip_compress(content, room)
            .map_err(|_| PackError::Room { bound })?;
        // A file's worth and no more: bodies wait in memory for slow clouds.
        self.body.reserve_exact(size);
        self.body.extend_from_slice(&room[..size]);
        // Of fresh zeros only the pages that were written to are memory: an eighth of them for
        // most content, and after a piece that hardly packs all of them, for ever.
        if size > WORTH_KEEPING {
            *room = Vec::new();
        }
        Ok(())
    }
}

/// The length of `bytes` without the zeros at their end.
fn filled(bytes: &[u8]) -> usize {
    const BLOCK: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    while end >= BLOCK.len() && bytes[end - BLOCK.len()..end] == BLOCK {
        end -= BLOCK.len();
    }
    bytes[..end]
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

/// zlib itself at `level` (1 to 9): for what libdeflate packs larger, and what sizes are measured
/// against.
pub fn zlib<W: Write>(sink: W, level: u8) -> flate2::write::GzEncoder<W> {
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
    /// zlib failed: a defect of it, since it writes to memory.
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

    fn packed(plain: &[u8], level: u8) -> Bytes {
        let mut bench = Bench::default();
        let mut packer = Packer::new(level, plain.len() as u64).expect("a level of gzip");
        for piece in plain.chunks(PIECE) {
            packer.add(&mut bench, piece).expect("it packs");
        }
        packer.finish(&mut bench).expect("it packs")
    }

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(packed)
            .read_to_end(&mut plain)
            .expect("gzip reads it");
        plain
    }

    fn by_zlib(plain: &[u8], level: u8) -> usize {
        let mut encoder = zlib(Vec::new(), level);
        encoder.write_all(plain).expect("memory takes it");
        encoder.finish().expect("memory takes it").len()
    }

    /// Rows of a table with numbers that do not repeat.
    fn rows(count: usize) -> Vec<u8> {
        let mut state = 1_u32;
        (0..count)
            .flat_map(|row| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                format!("heap/UPDATE rel 1663/16384 blk {row:06} balance {state:010} ").into_bytes()
            })
            .collect()
    }

    /// A table as it is loaded: a number that counts, and text that is always the same, on which
    /// libdeflate's cheap levels come out some per cent larger than zlib.
    fn loaded(count: u32) -> Vec<u8> {
        (0..count)
            .flat_map(|row| {
                let (page, item) = ((row / 61).to_le_bytes(), 8160 - (row % 61) * 128);
                let head = [&page[..], &item.to_le_bytes(), &row.to_le_bytes()].concat();
                [head, vec![1, 0, 0, 0, 0, 0, 0, 0, 171], vec![b' '; 84]].concat()
            })
            .collect()
    }

    fn noise(size: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        std::iter::repeat_with(|| random.u8(..))
            .take(size)
            .collect()
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_and_unpacks_to_itself() {
        let plain = rows(20_000);
        let first = packed(&plain, 9);
        assert_eq!(first, packed(&plain, 9));
        assert_eq!(unpacked(&first), plain);
    }

    #[test]
    fn no_piece_tells_a_name_or_a_time_whoever_packs_it() {
        let by_zlib = b"a loaded table ".repeat(200_000);
        for plain in [Vec::new(), rows(20_000), by_zlib, vec![0; PIECE]] {
            // RFC 1952: flags 0 (no name), mtime 0.
            assert_eq!(&packed(&plain, 9)[3..8], &[0, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn zeros_between_and_behind_the_content_come_back_where_they_were() {
        let zeros = |count| vec![0; count];
        for plain in [
            Vec::new(),
            zeros(1),
            zeros(PIECE + 1),
            [rows(10), zeros(PIECE)].concat(),
            [rows(10), zeros(PIECE), rows(10), zeros(40_000)].concat(),
            [zeros(PIECE - 5), noise(10), zeros(100)].concat(),
        ] {
            let body = packed(&plain, 9);
            assert!(unpacked(&body) == plain, "{} bytes", plain.len());
        }
    }

    #[test]
    fn a_higher_level_packs_smaller_whatever_the_encoder() {
        let plain = rows(20_000);
        let whole = |level| packed(&plain, level).len();
        let (fast, usual, small) = (whole(1), whole(6), whole(9));
        assert!(fast > usual && usual >= small, "{fast}, {usual}, {small}");
        assert!(by_zlib(&plain, 1) > by_zlib(&plain, 6));
        assert!(by_zlib(&plain, 6) > by_zlib(&plain, 9));
    }

    /// The bound of the setting `archive.level`, on content of every kind.
    #[test]
    fn nothing_is_packed_larger_than_zlib_does_at_that_level() {
        let zeros = |count| vec![0; count];
        for (kind, plain) in [
            ("rows", rows(60_000)),
            ("a load", loaded(60_000)),
            ("few rows", [rows(300), zeros(16 << 20)].concat()),
            ("noise", noise(3 << 20)),
            ("repeating", b"a loaded table ".repeat(200_000)),
            ("nothing", zeros(16 << 20)),
        ] {
            for level in [1, 6, 9] {
                let (ours, zlib) = (packed(&plain, level).len(), by_zlib(&plain, level));
                // What is added to a sample's error: the heads of a few members.
                let allowed = zlib + zlib / 1000 + 64;
                assert!(ours <= allowed, "{kind} at {level}: {ours} and {zlib}");
            }
        }
    }

    #[test]
    fn a_level_that_gzip_does_not_have_is_refused() {
        assert!(matches!(
            Packer::new(0, 1),
            Err(PackError::Level { level: 0 })
        ));
    }

    #[test]
    fn what_is_taken_piece_by_piece_is_the_same_file() {
        let zeros = vec![0; 2 * PIECE];
        let rows = rows(100_000);
        for plain in [
            Vec::new(),
            rows.clone(),
            zeros.clone(),
            [rows, zeros].concat(),
        ] {
            let mut bench = Bench::default();
            let mut packer = Packer::new(9, plain.len() as u64).expect("a level of gzip");
            let mut taken = Vec::new();
            for piece in plain.chunks(PIECE) {
                packer.add(&mut bench, piece).expect("it packs");
                taken.extend_from_slice(&packer.take());
            }
            taken.extend_from_slice(&packer.finish(&mut bench).expect("it packs"));
            assert!(packed(&plain, 9) == taken, "{} bytes", plain.len());
        }
    }
}
