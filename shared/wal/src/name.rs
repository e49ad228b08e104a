use std::{fmt, str::FromStr};

use crate::{Lsn, SegmentSize, TimelineId, serde_as_text, timeline::hex8};

/// Name of a segment: 24 upper-case hex digits, timeline, log and segment.
///
/// Ordered as WAL is within a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    timeline: TimelineId,
    log: u32,
    seg: u32,
}

/// Text that names no WAL file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("`{text}` is not a name that PostgreSQL gives to WAL")]
    NotWal { text: String },
    #[error("`{name}` cannot exist in a cluster with segments of {size}")]
    OutOfRange {
        name: SegmentName,
        size: SegmentSize,
    },
}

impl NameError {
    pub(crate) fn of(text: &str) -> Self {
        Self::NotWal {
            text: text.escape_debug().to_string(),
        }
    }
}

impl SegmentName {
    #[must_use]
    pub const fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// The number of the segment, counted from LSN 0.
    ///
    /// # Errors
    /// When no cluster with segments of that size has this name.
    pub fn number(&self, size: SegmentSize) -> Result<u64, NameError> {
        if u64::from(self.seg) < size.per_log() {
            Ok(u64::from(self.log) * size.per_log() + u64::from(self.seg))
        } else {
            Err(NameError::OutOfRange { name: *self, size })
        }
    }

    /// The segment of that number; `None` past the end of WAL.
    #[must_use]
    pub fn from_number(timeline: TimelineId, number: u64, size: SegmentSize) -> Option<Self> {
        Some(Self {
            timeline,
            log: u32::try_from(number / size.per_log()).ok()?,
            seg: u32::try_from(number % size.per_log()).ok()?,
        })
    }

    /// The position of its first byte.
    ///
    /// # Errors
    /// As [`SegmentName::number`].
    pub fn start_lsn(&self, size: SegmentSize) -> Result<Lsn, NameError> {
        Ok(Lsn::new(self.number(size)? * size.bytes()))
    }

    /// The one after it on the same timeline.
    ///
    /// # Errors
    /// As [`SegmentName::number`], and past the last segment that has a name.
    pub fn next(&self, size: SegmentSize) -> Result<Self, NameError> {
        let number = self.number(size)?;
        Self::from_number(self.timeline, number + 1, size)
            .ok_or(NameError::OutOfRange { name: *self, size })
    }

    /// The segment that holds the byte at `lsn`.
    #[must_use]
    pub fn from_lsn(timeline: TimelineId, lsn: Lsn, size: SegmentSize) -> Self {
        let per_log = size.per_log();
        let number = lsn.get() / size.bytes();
        // Both fit: an LSN has 64 bits, of which the size takes at least 20.
        Self {
            timeline,
            log: (number / per_log) as u32,
            seg: (number % per_log) as u32,
        }
    }
}

impl FromStr for SegmentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let part = |from: usize| text.get(from..from + 8);
        let parse = || {
            Some(Self {
                timeline: TimelineId::new(hex8(part(0)?)?)?,
                log: hex8(part(8)?)?,
                seg: hex8(part(16)?)?,
            })
        };
        // With the smallest segments, 1 MiB, a log has 4096 of them.
        match parse() {
            Some(name) if text.len() == 24 && name.seg < 4096 => Ok(name),
            _ => Err(NameError::of(text)),
        }
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:08X}{:08X}", self.timeline, self.log, self.seg)
    }
}

serde_as_text!(SegmentName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_upper_case_hex_of_24_digits_is_a_segment() {
        let good = "0000000100000000000000FF";
        assert_eq!(good.parse::<SegmentName>().unwrap().to_string(), good);
        for bad in [
            "",
            "0000000100000000000000ff",
            "0000000100000000000000F",
            "0000000100000000000000FF0",
            "000000010000000000001000",
            "000000000000000000000001",
            "00000001000000000000000:",
            "+0000001000000000000000F",
            "00000001000000000000000é",
            "0000000100000000000000FF\n",
        ] {
            assert!(bad.parse::<SegmentName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_next_segment_carries_over_at_the_end_of_a_log() {
        let name: SegmentName = "0000000100000000000000FF".parse().unwrap();
        let next = name.next(SegmentSize::DEFAULT).unwrap();
        assert_eq!(next.to_string(), "000000010000000100000000");
        let large = SegmentSize::try_from(1 << 30).unwrap();
        assert!(name.number(large).is_err(), "a log has 4 segments of 1 GiB");
    }

    proptest! {
        #[test]
        fn numbers_names_and_positions_agree(
            timeline in 1_u32..,
            lsn: u64,
            power in 20_u32..=30,
        ) {
            let size = SegmentSize::try_from(1_u64 << power).unwrap();
            let timeline = TimelineId::new(timeline).unwrap();
            let name = SegmentName::from_lsn(timeline, Lsn::new(lsn), size);
            let number = name.number(size).unwrap();
            prop_assert_eq!(number, lsn / size.bytes());
            prop_assert_eq!(SegmentName::from_number(timeline, number, size), Some(name));
            prop_assert_eq!(name.start_lsn(size).unwrap().get(), lsn / size.bytes() * size.bytes());
            prop_assert_eq!(name.to_string().parse::<SegmentName>().unwrap(), name);
        }

        #[test]
        fn names_sort_as_wal_does(a: u64, b: u64) {
            let name = |lsn| SegmentName::from_lsn(TimelineId::new(1).unwrap(), Lsn::new(lsn), SegmentSize::DEFAULT);
            let number = |lsn| name(lsn).number(SegmentSize::DEFAULT).unwrap();
            prop_assert_eq!(name(a).cmp(&name(b)), number(a).cmp(&number(b)));
            prop_assert_eq!(name(a).cmp(&name(b)), name(a).to_string().cmp(&name(b).to_string()));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<SegmentName>();
            let _ = text.parse::<crate::WalFile>();
            let _ = text.parse::<Lsn>();
        }
    }
}
