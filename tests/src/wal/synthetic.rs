//! Segments with a correct first page header and a content of one's choice: a
//! test with 300 of them does not have to drive a server for minutes.

/// Page magic of PostgreSQL 15.
const MAGIC: u16 = 0xD110;
const LONG_HEADER: u16 = 0x0002;
const BLOCK: u32 = 8192;

/// What a segment contains behind its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Nothing, as after a switch.
    Empty,
    /// A sixteenth of something like rows, the rest zeros.
    Light,
    /// Full of something like rows: packs to about an eighth.
    Rows,
    /// Bytes that do not pack.
    Random,
}

/// Makes the segments of one cluster and timeline. The same number and fill
/// give the same bytes; another seed gives others.
#[derive(Debug, Clone, Copy)]
pub struct Maker {
    /// System identifier in the header.
    pub system_id: u64,
    /// Timeline in name and header.
    pub timeline: u32,
    /// Bytes of a segment.
    pub segment_size: u32,
    /// Varies the content.
    pub seed: u64,
}

impl Maker {
    /// Segments of 1 MiB on timeline 1: the smallest there are.
    pub fn new(system_id: u64) -> Maker {
        Maker {
            system_id,
            timeline: 1,
            segment_size: 1 << 20,
            seed: 0,
        }
    }

    /// With another segment size.
    pub fn segment_size(self, segment_size: u32) -> Maker {
        assert!(segment_size.is_power_of_two() && segment_size >= 1 << 20);
        Maker {
            segment_size,
            ..self
        }
    }

    /// On another timeline.
    pub fn timeline(self, timeline: u32) -> Maker {
        Maker { timeline, ..self }
    }

    /// With another content.
    pub fn seed(self, seed: u64) -> Maker {
        Maker { seed, ..self }
    }

    /// The name of segment number `number` (its position divided by its size).
    pub fn name(&self, number: u64) -> String {
        let per_log = (1u64 << 32) / u64::from(self.segment_size);
        format!(
            "{:08X}{:08X}{:08X}",
            self.timeline,
            number / per_log,
            number % per_log
        )
    }

    /// Its bytes.
    pub fn bytes(&self, number: u64, fill: Fill) -> Vec<u8> {
        let size = self.segment_size as usize;
        let mut bytes = vec![0u8; size];
        let mut random = fastrand::Rng::with_seed(number ^ (self.seed << 32) ^ 0x5EED);
        match fill {
            Fill::Empty => {}
            Fill::Light => rows(&mut bytes[..size / 16], &mut random),
            Fill::Rows => rows(&mut bytes, &mut random),
            Fill::Random => random.fill(&mut bytes),
        }
        self.write_header(&mut bytes, number);
        bytes
    }

    fn write_header(&self, bytes: &mut [u8], number: u64) {
        let position = number * u64::from(self.segment_size);
        bytes[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[2..4].copy_from_slice(&LONG_HEADER.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.timeline.to_le_bytes());
        bytes[8..16].copy_from_slice(&position.to_le_bytes());
        bytes[16..24].fill(0);
        bytes[24..32].copy_from_slice(&self.system_id.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.segment_size.to_le_bytes());
        bytes[36..40].copy_from_slice(&BLOCK.to_le_bytes());
    }
}

/// Fields that repeat with numbers that do not: what WAL of a busy table packs
/// like.
fn rows(bytes: &mut [u8], random: &mut fastrand::Rng) {
    for row in bytes.chunks_mut(96) {
        let text = format!(
            "heap/UPDATE rel 1663/16384/{:05} blk {:06} off {:03} balance {:08} filler -------------------------",
            random.u16(..) % 4,
            random.u32(..) % 4096,
            random.u8(..) % 64,
            random.u32(..) % 100_000_000,
        );
        let text = &text.as_bytes()[..row.len().min(text.len())];
        row[..text.len()].copy_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::{Fill, Maker};

    #[test]
    fn the_last_segment_of_a_log_is_followed_by_the_first_of_the_next() {
        let maker = Maker::new(7).segment_size(16 << 20);
        assert_eq!(maker.name(255), "0000000100000000000000FF");
        assert_eq!(maker.name(256), "000000010000000100000000");
    }

    #[test]
    fn equal_arguments_give_equal_bytes_and_another_seed_gives_others() {
        let maker = Maker::new(7);
        let bytes = maker.bytes(3, Fill::Light);
        assert_eq!(bytes.len(), 1 << 20);
        assert!(bytes == maker.bytes(3, Fill::Light));
        assert!(bytes != maker.seed(1).bytes(3, Fill::Light));
    }
}
