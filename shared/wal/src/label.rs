use chrono::{DateTime, NaiveDateTime, Utc};

use crate::{Lsn, SegmentName, TimelineId};

/// The label of a finished base backup: the content of `SEGMENT.OFFSET.backup`
/// (`xlogbackup.c`, `build_backup_content` with `ishistoryfile`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub start_lsn: Lsn,
    pub start_segment: SegmentName,
    pub stop_lsn: Lsn,
    pub stop_segment: SegmentName,
    /// The timeline at the start.
    pub timeline: TimelineId,
    pub label: String,
    /// `None` when the server's log time zone is not UTC: abbreviations are ambiguous.
    pub start_time: Option<DateTime<Utc>>,
    /// As `start_time`.
    pub stop_time: Option<DateTime<Utc>>,
    pub backup_from: BackupFrom,
}

/// Which server was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupFrom {
    Primary,
    Standby,
}

/// The file is no label of a finished base backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Somebody's `cp` may be at work.
    #[error("the backup label is cut before its last line")]
    Incomplete,
    #[error("the backup label is far larger than any label")]
    TooLarge,
    #[error("the backup label has no valid `{0}`")]
    Field(&'static str),
}

/// A label has at most 1 KB, the other lines are short.
const MAX: usize = 1 << 20;

impl Label {
    /// Reads the content of a `.backup` file.
    ///
    /// # Errors
    /// [`LabelError`]; [`LabelError::Incomplete`] may pass when the writer is done.
    pub fn parse(bytes: &[u8]) -> Result<Self, LabelError> {
        if bytes.len() > MAX {
            return Err(LabelError::TooLarge);
        }
        // The label is the user's text, in the server's encoding, whatever that is.
        let text = String::from_utf8_lossy(bytes);
        let field = |name: &'static str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        // STOP TIMELINE is the last line (11 and later); 17 appends INCREMENTAL FROM … after it.
        let last = match field("INCREMENTAL FROM LSN") {
            Some(_) => "INCREMENTAL FROM TLI",
            None => "STOP TIMELINE",
        };
        if !text.ends_with('\n') || field(last).is_none() {
            return Err(LabelError::Incomplete);
        }
        let number = |name: &'static str| {
            field(name)
                .and_then(|text| text.parse().ok())
                .and_then(TimelineId::new)
                .ok_or(LabelError::Field(name))
        };
        let place = |name: &'static str| field(name).and_then(place).ok_or(LabelError::Field(name));
        let (start_lsn, start_segment) = place("START WAL LOCATION")?;
        let (stop_lsn, stop_segment) = place("STOP WAL LOCATION")?;
        number("STOP TIMELINE")?;
        Ok(Self {
            start_lsn,
            start_segment,
            stop_lsn,
            stop_segment,
            timeline: number("START TIMELINE")?,
            label: field("LABEL").unwrap_or_default().to_owned(),
            start_time: field("START TIME").and_then(time),
            stop_time: field("STOP TIME").and_then(time),
            backup_from: match field("BACKUP FROM") {
                Some("primary") => BackupFrom::Primary,
                Some("standby") => BackupFrom::Standby,
                _ => return Err(LabelError::Field("BACKUP FROM")),
            },
        })
    }
}

/// `0/2000028 (file 000000010000000000000002)`
fn place(text: &str) -> Option<(Lsn, SegmentName)> {
    let (lsn, rest) = text.split_once(" (file ")?;
    Some((lsn.parse().ok()?, rest.strip_suffix(')')?.parse().ok()?))
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    let (time, zone) = text.rsplit_once(' ')?;
    let utc = matches!(zone, "UTC" | "GMT" | "Etc/UTC");
    let time = NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").ok()?;
    utc.then(|| time.and_utc())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
        STOP WAL LOCATION: 0/3000100 (file 000000010000000000000003)\n\
        CHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
        START TIME: 2025-11-03 12:00:00 UTC\nLABEL: nightly\nSTART TIMELINE: 1\n\
        STOP TIME: 2025-11-03 12:05:00 UTC\nSTOP TIMELINE: 1\n";

    #[test]
    fn a_label_tells_from_where_to_where_wal_is_needed() {
        let label = Label::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(label.start_lsn.to_string(), "0/2000028");
        assert_eq!(label.stop_segment.to_string(), "000000010000000000000003");
        assert_eq!(label.label, "nightly");
        assert_eq!(
            label.stop_time.unwrap().to_rfc3339(),
            "2025-11-03T12:05:00+00:00"
        );
    }

    #[test]
    fn a_label_of_another_time_zone_has_no_times_rather_than_wrong_ones() {
        let label = Label::parse(GOOD.replace(" UTC", " IST").as_bytes()).unwrap();
        assert_eq!((label.start_time, label.stop_time), (None, None));
    }

    #[test]
    fn every_cut_of_a_label_is_seen() {
        for end in 0..GOOD.len() {
            assert_eq!(
                Label::parse(&GOOD.as_bytes()[..end]),
                Err(LabelError::Incomplete),
                "cut at {end}"
            );
        }
    }

    #[test]
    fn an_incremental_backup_of_version_17_has_two_more_lines() {
        let more = "INCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 1\n";
        assert!(Label::parse(format!("{GOOD}{more}").as_bytes()).is_ok());
        let cut = format!("{GOOD}{}", &more[..32]);
        assert!(cut.ends_with('\n'));
        assert_eq!(Label::parse(cut.as_bytes()), Err(LabelError::Incomplete));
    }

    #[test]
    fn a_label_in_another_encoding_is_read() {
        let bytes: Vec<u8> = GOOD
            .replace("nightly", "#")
            .bytes()
            .map(|byte| if byte == b'#' { 0xFC } else { byte })
            .collect();
        assert_eq!(Label::parse(&bytes).unwrap().label, "\u{FFFD}");
    }

    #[test]
    fn a_label_without_its_places_is_refused() {
        for (field, with) in [
            (
                "START WAL LOCATION",
                "START WAL LOCATION: 0/x (file 000000010000000000000002)",
            ),
            ("STOP WAL LOCATION", "STOP WAL LOCATION: 0/3000100"),
            ("BACKUP FROM", "BACKUP FROM: elsewhere"),
            ("START TIMELINE", "START TIMELINE: 0"),
        ] {
            let text: String = GOOD
                .lines()
                .map(|line| format!("{}\n", if line.starts_with(field) { with } else { line }))
                .collect();
            assert_eq!(Label::parse(text.as_bytes()), Err(LabelError::Field(field)));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Label::parse(&bytes);
        }
    }
}
