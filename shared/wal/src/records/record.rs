use std::borrow::Cow;

use super::cursor::Cursor;
use crate::Lsn;

/// One record that is valid by itself.
pub(super) struct Record<'a> {
    pub(super) lsn: Lsn,
    pub(super) end: Lsn,
    pub(super) header: RecordHeader,
    bytes: Cow<'a, [u8]>,
}

/// `XLogRecord`, without what only checks it.
#[derive(Clone, Copy)]
pub(super) struct RecordHeader {
    pub(super) xid: u32,
    /// Position of the record before.
    pub(super) previous: u64,
    pub(super) info: u8,
    pub(super) manager: u8,
}

/// `MAXALIGN` where PostgreSQL has 64 bits: records begin at its multiples.
pub(super) const ALIGN: usize = 8;
/// `RM_XLOG_ID`.
pub(super) const XLOG: u8 = 0;
/// `RM_XACT_ID`.
pub(super) const TRANSACTION: u8 = 1;

const DATA_SHORT: u8 = 255;
const DATA_LONG: u8 = 254;
const ORIGIN: u8 = 253;
const TOP_LEVEL_XID: u8 = 252;
const CRC_AT: usize = 20;

impl RecordHeader {
    pub(super) const SIZE: usize = 24;

    /// `None` when the bytes are too few.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Cursor::new(bytes.get(..Self::SIZE)?);
        bytes.skip(4)?;
        Some(Self {
            xid: bytes.u32()?,
            previous: bytes.u64()?,
            info: bytes.u8()?,
            manager: bytes.u8()?,
        })
    }

    /// Whether the server ended the segment with this record.
    pub(super) const fn is_switch(&self) -> bool {
        self.manager == XLOG && self.info & 0xF0 == 0x40
    }
}

impl<'a> Record<'a> {
    /// `None` when the checksum says otherwise.
    pub(super) fn new(bytes: Cow<'a, [u8]>, lsn: Lsn, end: Lsn) -> Option<Self> {
        let header = RecordHeader::parse(&bytes)?;
        let stored = Cursor::new(bytes.get(CRC_AT..)?).u32()?;
        // The body first, then the header up to the checksum (`ValidXLogRecord`).
        let of_body = crc32c::crc32c(bytes.get(RecordHeader::SIZE..)?);
        let found = crc32c::crc32c_append(of_body, bytes.get(..CRC_AT)?);
        (found == stored).then_some(Self {
            lsn,
            end,
            header,
            bytes,
        })
    }

    /// Its main data; `None` when it refers to blocks, or to what no known version writes. None
    /// of the records that are events does.
    pub(super) fn main(&self) -> Option<&[u8]> {
        let mut bytes = Cursor::new(self.bytes.get(RecordHeader::SIZE..)?);
        loop {
            let length = match bytes.u8()? {
                DATA_SHORT => usize::from(bytes.u8()?),
                DATA_LONG => usize::try_from(bytes.u32()?).ok()?,
                ORIGIN => {
                    bytes.skip(2)?;
                    continue;
                }
                TOP_LEVEL_XID => {
                    bytes.skip(4)?;
                    continue;
                }
                _ => return None,
            };
            return (bytes.rest().len() == length).then_some(bytes.rest());
        }
    }
}
