//! Writes segments as PostgreSQL does, for what a real one cannot be made to write.

use crate::{PageHeader, SegmentName, SegmentSize};

pub(super) const SIZE: usize = 1 << 20;

pub(super) struct Made {
    pub(super) bytes: Vec<u8>,
    at: usize,
    block: usize,
    magic: u16,
    previous: u64,
}

impl Made {
    /// Segment 3 of timeline 1, empty, with a first page that begins no record or carries on
    /// `remaining` bytes of one.
    pub(super) fn new(magic: u16, block: usize, remaining: usize) -> Self {
        let mut made = Self {
            bytes: vec![0; SIZE],
            at: 0,
            block,
            magic,
            previous: START - 64,
        };
        made.page(remaining);
        made.copy(&vec![0xAB; remaining], true);
        made
    }

    pub(super) fn name() -> SegmentName {
        "000000010000000000000003".parse().unwrap()
    }

    pub(super) fn size() -> SegmentSize {
        SegmentSize::try_from(SIZE as u64).unwrap()
    }

    /// A commit of xid 7, so many microseconds after 2000 began; its position.
    pub(super) fn commit(&mut self, microseconds: i64) -> u64 {
        let time = microseconds.to_le_bytes();
        self.record(1, 0, &[&[255, 8], &time[..]].concat())
    }

    /// A record of that manager with `data` behind its header; its position.
    pub(super) fn record(&mut self, manager: u8, info: u8, data: &[u8]) -> u64 {
        if self.at.is_multiple_of(self.block) && self.at < SIZE {
            self.page(0);
        }
        let position = START + self.at as u64;
        let mut record = Vec::new();
        record.extend_from_slice(&u32::try_from(24 + data.len()).unwrap().to_le_bytes());
        record.extend_from_slice(&7_u32.to_le_bytes());
        record.extend_from_slice(&self.previous.to_le_bytes());
        record.extend_from_slice(&[info, manager, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(data), &record);
        record.extend_from_slice(&crc.to_le_bytes());
        record.extend_from_slice(data);
        self.copy(&record, false);
        self.previous = position;
        position
    }

    /// The server crashed within a record of which only the first page was written, came back,
    /// and goes on behind it.
    pub(super) fn lose(&mut self) {
        let previous = self.previous;
        let (first, next) = (self.at, self.at - self.at % self.block + self.block);
        self.record(10, 0, &vec![1; self.block]);
        assert!(first < next, "on a page that has room");
        self.bytes[next..].fill(0);
        (self.at, self.previous) = (next, previous);
        self.page(0);
        self.bytes[next + 2] |= 8;
    }

    /// So many bytes are left in the page.
    pub(super) fn room(&self) -> usize {
        self.block - self.at % self.block
    }

    fn page(&mut self, remaining: usize) {
        let (at, long) = (self.at, self.at == 0);
        let info = u16::from(remaining > 0) | u16::from(long) << 1;
        let mut header = [0; PageHeader::SIZE];
        header[0..2].copy_from_slice(&self.magic.to_le_bytes());
        header[2..4].copy_from_slice(&info.to_le_bytes());
        header[4..8].copy_from_slice(&1_u32.to_le_bytes());
        header[8..16].copy_from_slice(&(START + at as u64).to_le_bytes());
        header[16..20].copy_from_slice(&u32::try_from(remaining).unwrap().to_le_bytes());
        header[24..32].copy_from_slice(&9_u64.to_le_bytes());
        header[32..36].copy_from_slice(&u32::try_from(SIZE).unwrap().to_le_bytes());
        header[36..40].copy_from_slice(&u32::try_from(self.block).unwrap().to_le_bytes());
        let size = if long { PageHeader::SIZE } else { 24 };
        self.bytes[at..at + size].copy_from_slice(&header[..size]);
        self.at += size;
    }

    /// Over as many pages as it takes; what is behind the segment is left out.
    fn copy(&mut self, mut record: &[u8], begun: bool) {
        let mut first = !begun;
        while !record.is_empty() && self.at < SIZE {
            if self.at.is_multiple_of(self.block) && !first {
                self.page(record.len());
            }
            first = false;
            let (now, later) = record.split_at(record.len().min(self.room()));
            self.bytes[self.at..self.at + now.len()].copy_from_slice(now);
            self.at += now.len();
            record = later;
        }
        self.at = self.at.next_multiple_of(8);
    }
}

/// Where segment 3 begins.
pub(super) const START: u64 = 3 * SIZE as u64;
