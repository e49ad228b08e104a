//! A gzip level is a promise of size: which encoder keeps it at the least work?
//!
//! What the levels of libdeflate make of WAL differs with its content: on rows of pgbench level
//! 5 may be smaller than zlib's 9 or 1 % larger, on a freshly loaded table no level reaches it.
//! So samples of each piece are packed by zlib at the level asked for and by libdeflate, and the
//! cheapest that is no larger is taken; where none is, zlib itself. The samples lie at fixed
//! places: the same content is always packed in the same way.

use flate2::{Compress, Compression, FlushCompress};
use libdeflater::{CompressionLvl, Compressor};

/// Size of one sample. The samples of a piece are packed as one: each alone would mostly
/// measure the head of its block.
const SAMPLE: usize = 64 << 10;
/// Samples of a piece, and where these few leave a doubt: on rows of pgbench they err by a
/// hundredth, on a load by much less.
const FEW: usize = 2;
const MANY: usize = 6;
/// Below this no sample is worth its work: what a level misses there is under 1 KiB.
const TOO_SMALL: usize = 256 << 10;
/// What packs to less than this part of itself is long repeats: zlib walks through them at
/// 500 MB/s, and libdeflate spends a few per cent more on each.
const REPEATING: usize = 64;
/// What keeps more than 7 parts of 8 has no repeats worth a search: all levels come out within
/// a thousandth of each other there.
const BARELY: usize = 8;
const FASTEST: u8 = 1;
/// libdeflate's levels that reach zlib's 9 on WAL, by rising work. Below 6 the rows of a grown
/// table come out larger; above 8 zlib is cheaper.
const LEVELS: [u8; 3] = [6, 7, 8];
/// The level for what is too small: at zlib's 9 or below on all that was measured but loads.
const UNSAMPLED: u8 = 7;

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
    sample: Vec<u8>,
}

impl Encoders {
    /// The cheapest encoder that packs `piece` no larger than zlib does at `level` (1 to 9).
    pub(super) fn fit(&mut self, piece: &[u8], level: u8) -> Fit {
        if piece.len() < TOO_SMALL {
            return Fit::Libdeflate(level.min(UNSAMPLED));
        }
        let mut sample = std::mem::take(&mut self.sample);
        collect(piece, FEW, &mut sample);
        let fit = self.at_once(&sample, level).unwrap_or_else(|| {
            collect(piece, MANY, &mut sample);
            self.in_doubt(&sample, level)
        });
        self.sample = sample;
        fit
    }

    /// What a few samples tell; `None` when they leave a doubt.
    fn at_once(&mut self, sample: &[u8], level: u8) -> Option<Fit> {
        let wanted = self.zlib(sample, level);
        if wanted < sample.len() / REPEATING {
            return Some(Fit::Zlib);
        }
        if wanted > sample.len() - sample.len() / BARELY {
            return self.reaches(sample, FASTEST, wanted + wanted / 1000);
        }
        if level < LEVELS[0] {
            return self.reaches(sample, FASTEST, wanted);
        }
        // The lower one has to win by half of what they err by: on the rows of a large table
        // it is the larger one, and the next one is not.
        self.reaches(sample, LEVELS[0], wanted - wanted / 200)
            .or_else(|| self.reaches(sample, LEVELS[1], wanted + wanted / 2000))
    }

    /// The cheapest of those that are no larger than zlib, within what many samples err by.
    fn in_doubt(&mut self, sample: &[u8], level: u8) -> Fit {
        let wanted = self.zlib(sample, level);
        let (lowest, most) = (wanted - wanted / 200, wanted + wanted / 1000);
        [lowest, most, most]
            .into_iter()
            .zip(LEVELS)
            .find_map(|(bound, candidate)| self.reaches(sample, candidate, bound))
            .unwrap_or(Fit::Zlib)
    }

    /// libdeflate at `level`, if it packs `sample` to at most `bound` bytes.
    fn reaches(&mut self, sample: &[u8], level: u8, bound: usize) -> Option<Fit> {
        (self.deflate(sample, level) <= bound).then_some(Fit::Libdeflate(level))
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
        room.resize(compressor.deflate_compress_bound(sample.len()), 0);
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
        // Stored blocks are the worst case: five bytes for each 16 KiB, and some room.
        self.room
            .resize(sample.len() + sample.len() / 1024 + 1024, 0);
        let _ = encoder.compress(sample, &mut self.room, FlushCompress::Finish);
        usize::try_from(encoder.total_out()).unwrap_or(usize::MAX)
    }
}

/// Fills `sample` with `count` of them at fixed places, spread over `piece`, or with fewer where
/// it is shorter. It is longer than one.
fn collect(piece: &[u8], count: usize, sample: &mut Vec<u8>) {
    let count = count.min(piece.len() / SAMPLE);
    let share = piece.len() / count;
    sample.clear();
    for at in 0..count {
        let from = at * share + (share - SAMPLE) / 2;
        sample.extend_from_slice(&piece[from..from + SAMPLE]);
    }
}
