use std::{fmt, str::FromStr};

use crate::{NameError, SegmentName, TimelineId, serde_as_text, timeline::hex8};

/// A file that PostgreSQL hands to its archiver, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFile {
    /// `00000002.history`: where a timeline began. First in every order.
    History(TimelineId),
    /// A finished segment.
    Segment(SegmentName),
    /// The last segment of an old timeline, cut at a promotion. Never a substitute for the whole.
    Partial(SegmentName),
    /// `SEGMENT.OFFSET.backup`: the label of a base backup that began there.
    Label {
        segment: SegmentName,
        /// Offset of the start within the segment, in bytes.
        offset: u32,
    },
}

/// What a file is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    History,
    Segment,
    Partial,
    #[serde(rename = "backup")]
    Label,
}

impl WalFile {
    #[must_use]
    pub const fn kind(&self) -> FileKind {
        match self {
            Self::History(_) => FileKind::History,
            Self::Segment(_) => FileKind::Segment,
            Self::Partial(_) => FileKind::Partial,
            Self::Label { .. } => FileKind::Label,
        }
    }

    #[must_use]
    pub const fn timeline(&self) -> TimelineId {
        match self {
            Self::History(timeline) => *timeline,
            Self::Segment(name) | Self::Partial(name) => name.timeline(),
            Self::Label { segment, .. } => segment.timeline(),
        }
    }

    /// The segment it is, or belongs to; `None` for a history file.
    #[must_use]
    pub const fn segment(&self) -> Option<SegmentName> {
        match self {
            Self::History(_) => None,
            Self::Segment(name) | Self::Partial(name) => Some(*name),
            Self::Label { segment, .. } => Some(*segment),
        }
    }
}

impl FileKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::History => "history",
            Self::Segment => "segment",
            Self::Partial => "partial",
            Self::Label => "backup",
        }
    }
}

impl fmt::Display for WalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::History(timeline) => write!(f, "{timeline}.history"),
            Self::Segment(name) => write!(f, "{name}"),
            Self::Partial(name) => write!(f, "{name}.partial"),
            Self::Label { segment, offset } => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

impl FromStr for WalFile {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((stem, extension)) = text.rsplit_once('.') else {
            return text.parse().map(Self::Segment);
        };
        let parsed = match extension {
            "history" => stem.parse().ok().map(Self::History),
            "partial" => stem.parse().ok().map(Self::Partial),
            "backup" => stem.split_once('.').and_then(|(segment, offset)| {
                Some(Self::Label {
                    segment: segment.parse().ok()?,
                    offset: hex8(offset)?,
                })
            }),
            _ => None,
        };
        parsed.ok_or_else(|| NameError::of(text))
    }
}

serde_as_text!(WalFile);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Lsn, SegmentSize};

    proptest! {
        #[test]
        fn every_name_is_read_as_it_is_written(timeline in 1_u32.., lsn: u64, offset: u32) {
            let timeline = TimelineId::new(timeline).unwrap();
            let segment = SegmentName::from_lsn(timeline, Lsn::new(lsn), SegmentSize::DEFAULT);
            for file in [
                WalFile::History(timeline),
                WalFile::Segment(segment),
                WalFile::Partial(segment),
                WalFile::Label { segment, offset },
            ] {
                let name = file.to_string();
                prop_assert_eq!(name.parse::<WalFile>().unwrap(), file);
                prop_assert_eq!(file.timeline(), timeline);
                // One spelling: any digit in lower case, one more or one fewer is another name.
                for bad in [format!("0{name}"), name[1..].to_owned(), format!("{name} ")] {
                    prop_assert!(bad.parse::<WalFile>().is_err(), "{}", bad);
                }
                let lower = name.to_lowercase();
                prop_assert!(lower == name || lower.parse::<WalFile>().is_err());
            }
        }

        #[test]
        fn history_files_sort_before_all_wal(timeline in 1_u32.., other in 1_u32.., lsn: u64) {
            let history = WalFile::History(TimelineId::new(timeline).unwrap());
            let other = TimelineId::new(other).unwrap();
            let segment = SegmentName::from_lsn(other, Lsn::new(lsn), SegmentSize::DEFAULT);
            prop_assert!(history < WalFile::Segment(segment));
            prop_assert!(history < WalFile::Partial(segment));
        }
    }

    #[test]
    fn every_kind_of_file_is_known_by_its_exact_name() {
        for (name, kind) in [
            ("00000002.history", "history"),
            ("0000000100000000000000A1", "segment"),
            ("0000000100000000000000A1.partial", "partial"),
            ("0000000100000000000000A1.00000028.backup", "backup"),
        ] {
            let file: WalFile = name.parse().unwrap();
            assert_eq!(file.to_string(), name);
            assert_eq!(file.kind().as_str(), kind);
        }
        for bad in [
            "00000000.history",
            "0000002.history",
            "00000002.HISTORY",
            "00000002.history.gz",
            "0000000100000000000000a1.partial",
            "0000000100000000000000A1.28.backup",
            "0000000100000000000000A1.backup",
            "archtemp.0000000100000000000000A1",
            ".0000000100000000000000A1",
            "../0000000100000000000000A1",
        ] {
            assert!(bad.parse::<WalFile>().is_err(), "{bad}");
        }
    }
}
