//! A gzip level is a promise of size: which encoder keeps it at the least work?
//!
//! What the levels of libdeflate make of WAL differs with its content: on rows of pgbench level
//! 5 may be smaller than zlib's 9 or 1 % larger, on a freshly loaded table no level reaches it.
//! So samples of each piece are packed by zlib at the level asked for and by libdeflate, and the
//! cheapest that is no larger is taken; where none is, zlib itself. The samples lie at fixed
//! places: the same content is always packed in the same way.

use flate2::{Compress, Compression, FlushCompress};
use libdeflater::{CompressionLvl, Compressor};

/// Size of one sample, and how much content it stands for.
const SAMPLE: usize = 64 << 10;
const FOR_EACH: usize = 2 << 20;
/// Below this no sample is worth its work: what a level misses there is under 1 KiB.
const TOO_SMALL: usize = 256 << 10;
/// What packs to less than this part of itself is long repeats: zlib walks through them at
/// 500 MB/s, and libdeflate spends a few per cent more on each.
const REPEATING: usize = 64;
/// libdeflate's levels that WAL tells apart, by rising work. Above 8 zlib is cheaper.
const LEVELS: [u8; 5] = [1, 5, 6, 7, 8];
/// The level for what is too small: at zlib's 9 or below on all that was measured but loads.
const UNSAMPLED: u8 = 7;
/// From this level on the next one costs more than twice the work, so a sample that misses by
/// a thousandth, which is its own error, passes. Cheaper ones have to win by two.
const DEAR: u8 = 7;

/// Who packs a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// libdeflate at this level.
    Libdeflate(u8),
    /// zlib at the level asked for.
    Zlib,
}

/// Encoders of one packing thread, made when they are first needed.
#[derive(Default)]
pub(super) struct Encoders {
    libdeflate: [Option<Compressor>; 13],
    zlib: Option<(u8, Compress)>,
    room: Vec<u8>,
}

impl Encoders {
    /// The cheapest encoder that packs `piece` no larger than zlib does at `level` (1 to 9).
    pub(super) fn fit(&mut self, piece: &[u8], level: u8) -> Fit {
        if piece.len() < TOO_SMALL {
            return Fit::Libdeflate(level.min(UNSAMPLED));
        }
        let samples: Vec<&[u8]> = samples(piece).collect();
        let wanted: usize = samples.iter().map(|sample| self.zlib(sample, level)).sum();
        if wanted < samples.len() * SAMPLE / REPEATING {
            return Fit::Zlib;
        }
        LEVELS
            .into_iter()
            .find(|candidate| {
                let made: usize = samples
                    .iter()
                    .map(|sample| self.deflate(sample, *candidate))
                    .sum();
                let bound = if *candidate >= DEAR {
                    wanted + wanted / 1000
                } else {
                    wanted - wanted / 500
                };
                made <= bound
            })
            .map_or(Fit::Zlib, Fit::Libdeflate)
    }

    /// libdeflate at `level`, one of its own.
    pub(super) fn libdeflate(&mut self, level: u8) -> &mut Compressor {
        self.libdeflate[usize::from(level)].get_or_insert_with(|| {
            Compressor::new(CompressionLvl::new(i32::from(level)).unwrap_or_default())
        })
    }

    fn deflate(&mut self, sample: &[u8], level: u8) -> usize {
        let mut room = std::mem::take(&mut self.room);
        let compressor = self.libdeflate(level);
        room.resize(compressor.deflate_compress_bound(SAMPLE), 0);
        let size = compressor.deflate_compress(sample, &mut room);
        self.room = room;
        size.unwrap_or(usize::MAX / (1 << 10))
    }

    fn zlib(&mut self, sample: &[u8], level: u8) -> usize {
        let encoder = match &mut self.zlib {
            Some((at, encoder)) if *at == level => encoder,
            other => {
                let new = Compress::new(Compression::new(u32::from(level)), false);
                &mut other.insert((level, new)).1
            }
        };
        encoder.reset();
        // Stored blocks are the worst case: five bytes for each 64 KiB, and some room.
        self.room.resize(SAMPLE + 1024, 0);
        let _ = encoder.compress(sample, &mut self.room, FlushCompress::Finish);
        usize::try_from(encoder.total_out()).unwrap_or(usize::MAX)
    }
}

/// Samples at fixed places, spread over `piece`, which is at least one long.
fn samples(piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    let count = (piece.len() / FOR_EACH).max(1);
    let share = piece.len() / count;
    (0..count).map(move |at| {
        let from = at * share + (share - SAMPLE) / 2;
        &piece[from..from + SAMPLE]
    })
}
