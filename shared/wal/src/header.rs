use crate::{Lsn, NameError, SegmentName, SegmentSize, SystemId, TimelineId};

/// The long header of a segment's first page (`XLogLongPageHeaderData`, little-endian).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    pub magic: u16,
    pub info: u16,
    pub timeline: TimelineId,
    /// Position of the segment's first byte.
    pub page_address: Lsn,
    pub system_id: SystemId,
    pub segment_size: SegmentSize,
    pub block_size: u32,
}

/// The magic of a PostgreSQL that this version does not know: archived all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMagic(pub u16);

/// The file is not the segment that its name says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("the file has {0} bytes, too few for a WAL page header")]
    Short(usize),
    #[error("the first page has no long header: this is no finished segment")]
    NotLong,
    #[error("the header names timeline 0")]
    NoTimeline,
    #[error("the header names a segment size of {0} bytes, which cannot be")]
    SegmentSize(u32),
    #[error("the header names a segment of {header}, the file has {file} bytes")]
    FileSize { header: SegmentSize, file: u64 },
    #[error("the header is that of position {found}, the name says {expected}")]
    Position { expected: Lsn, found: Lsn },
    #[error("the header names timeline {found}, which is later than the name's {expected}")]
    Timeline {
        expected: TimelineId,
        found: TimelineId,
    },
    #[error("the segment belongs to system {found}, not to {expected}")]
    System { expected: SystemId, found: SystemId },
    #[error(transparent)]
    Name(#[from] NameError),
}

const LONG_HEADER: u16 = 0x0002;

impl PageHeader {
    /// Bytes of the header.
    pub const SIZE: usize = 40;

    /// Reads the first [`PageHeader::SIZE`] bytes of a segment.
    ///
    /// # Errors
    /// When they are no long page header. A zeroed file is one of those.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; Self::SIZE] = bytes
            .get(..Self::SIZE)
            .and_then(|head| head.try_into().ok())
            .ok_or(HeaderError::Short(bytes.len()))?;
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let info = u16_at(2);
        if info & LONG_HEADER == 0 {
            return Err(HeaderError::NotLong);
        }
        let size = u32_at(32);
        Ok(Self {
            magic: u16_at(0),
            info,
            timeline: TimelineId::new(u32_at(4)).ok_or(HeaderError::NoTimeline)?,
            page_address: Lsn::new(u64_at(8)),
            system_id: SystemId::new(u64_at(24)),
            segment_size: SegmentSize::try_from(u64::from(size))
                .map_err(|_| HeaderError::SegmentSize(size))?,
            block_size: u32_at(36),
        })
    }

    /// Whether a file of `file_size` bytes called `name` may carry this header.
    ///
    /// The first segment after a promotion carries the *old* timeline, so the header's
    /// timeline may be lower than the name's.
    ///
    /// # Errors
    /// The first contradiction. An unknown magic is none, but worth a warning.
    pub fn check(
        &self,
        name: &SegmentName,
        file_size: u64,
        expected_system: Option<SystemId>,
    ) -> Result<Option<UnknownMagic>, HeaderError> {
        if self.segment_size.bytes() != file_size {
            return Err(HeaderError::FileSize {
                header: self.segment_size,
                file: file_size,
            });
        }
        let expected = name.start_lsn(self.segment_size)?;
        if self.page_address != expected {
            return Err(HeaderError::Position {
                expected,
                found: self.page_address,
            });
        }
        if self.timeline > name.timeline() {
            return Err(HeaderError::Timeline {
                expected: name.timeline(),
                found: self.timeline,
            });
        }
        if let Some(expected) = expected_system.filter(|system| *system != self.system_id) {
            return Err(HeaderError::System {
                expected,
                found: self.system_id,
            });
        }
        Ok(match postgres_version(self.magic) {
            Some(_) => None,
            None => Some(UnknownMagic(self.magic)),
        })
    }
}

/// The major version that writes pages of that magic (`XLOG_PAGE_MAGIC`).
#[must_use]
pub const fn postgres_version(magic: u16) -> Option<u8> {
    match magic {
        0xD106 => Some(13),
        0xD10D => Some(14),
        0xD110 => Some(15),
        0xD113 => Some(16),
        0xD116 => Some(17),
        0xD118 => Some(18),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(timeline: u32, address: u64, system: u64, size: u32) -> Vec<u8> {
        let mut bytes = vec![0; PageHeader::SIZE];
        bytes[0..2].copy_from_slice(&0xD110_u16.to_le_bytes());
        bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
        bytes[4..8].copy_from_slice(&timeline.to_le_bytes());
        bytes[8..16].copy_from_slice(&address.to_le_bytes());
        bytes[24..32].copy_from_slice(&system.to_le_bytes());
        bytes[32..36].copy_from_slice(&size.to_le_bytes());
        bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
        bytes
    }

    fn check(bytes: &[u8], name: &str, size: u64) -> Result<Option<UnknownMagic>, HeaderError> {
        let name: SegmentName = name.parse().unwrap();
        PageHeader::parse(bytes)?.check(&name, size, Some(SystemId::new(7)))
    }

    const SIZE: u32 = 16 << 20;

    #[test]
    fn a_segment_is_what_its_header_says() {
        let good = header(1, 0x300_0000, 7, SIZE);
        assert_eq!(
            check(&good, "000000010000000000000003", u64::from(SIZE)),
            Ok(None)
        );
        let promoted = check(&good, "000000020000000000000003", u64::from(SIZE));
        assert_eq!(
            promoted,
            Ok(None),
            "an older timeline in the header is legal"
        );
        for (bytes, name, size) in [
            (&good, "000000010000000000000004", SIZE),
            (&good, "000000010000000000000003", SIZE - 1),
            (
                &header(2, 0x300_0000, 7, SIZE),
                "000000010000000000000003",
                SIZE,
            ),
            (
                &header(1, 0x300_0000, 8, SIZE),
                "000000010000000000000003",
                SIZE,
            ),
            (
                &header(1, 0x300_0000, 7, 3),
                "000000010000000000000003",
                SIZE,
            ),
            (
                &header(0, 0x300_0000, 7, SIZE),
                "000000010000000000000003",
                SIZE,
            ),
            (&vec![0; PageHeader::SIZE], "000000010000000000000003", SIZE),
            (&vec![0; 3], "000000010000000000000003", SIZE),
        ] {
            assert!(
                check(bytes, name, u64::from(size)).is_err(),
                "{name} {size}"
            );
        }
    }

    #[test]
    fn the_pages_of_postgresql_14_to_18_are_known() {
        for (version, magic) in [
            (14, 0xD10D_u16),
            (15, 0xD110),
            (16, 0xD113),
            (17, 0xD116),
            (18, 0xD118),
        ] {
            let mut bytes = header(1, 0x300_0000, 7, SIZE);
            bytes[..2].copy_from_slice(&magic.to_le_bytes());
            let found = check(&bytes, "000000010000000000000003", u64::from(SIZE));
            assert_eq!(found, Ok(None), "PostgreSQL {version}");
            assert_eq!(postgres_version(magic), Some(version));
        }
    }

    #[test]
    fn a_page_without_the_long_header_begins_no_segment_whatever_else_is_right() {
        let mut bytes = header(1, 0x300_0000, 7, SIZE);
        bytes[2] = 0;
        let found = check(&bytes, "000000010000000000000003", u64::from(SIZE));
        assert_eq!(found, Err(HeaderError::NotLong));
    }

    #[test]
    fn an_unknown_magic_is_told_and_no_error() {
        let mut bytes = header(1, 0x300_0000, 7, SIZE);
        bytes[0] = 0xFF;
        let found = check(&bytes, "000000010000000000000003", u64::from(SIZE));
        assert_eq!(found, Ok(Some(UnknownMagic(0xD1FF))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(header) = PageHeader::parse(&bytes) {
                let name: SegmentName = "0000000100000000000000FF".parse().unwrap();
                let _ = header.check(&name, 16 << 20, None);
            }
        }
    }
}
