use crate::{Lsn, TimelineId};

/// A timeline's history: the timelines it came from, oldest first (`timeline.c`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The timeline whose history this is.
    pub timeline: TimelineId,
    /// Its ancestors, oldest first.
    pub entries: Vec<HistoryEntry>,
}

/// One ancestor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The ancestor.
    pub parent: TimelineId,
    /// Where it was left: its WAL counts up to here.
    pub switch: Lsn,
    /// What PostgreSQL said about it.
    pub reason: String,
}

/// The file is no history of that timeline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Somebody's `cp` may be at work.
    #[error("the history file is cut: its last line has no end")]
    Incomplete,
    #[error("the history file is far larger than any history")]
    TooLarge,
    #[error("line {line} is no ancestor: `{text}`")]
    Line { line: usize, text: String },
    #[error("line {line}: ancestors must ascend and lie below timeline {timeline}")]
    Order { line: usize, timeline: TimelineId },
    #[error("the history file names no ancestor")]
    Empty,
}

/// A line is shorter than 1.2 KB, and there is one per promotion.
const MAX: usize = 1 << 20;

impl History {
    /// Reads the content of `TIMELINE.history`.
    ///
    /// # Errors
    /// [`HistoryError`]; [`HistoryError::Incomplete`] may pass when the writer is done.
    pub fn parse(timeline: TimelineId, bytes: &[u8]) -> Result<Self, HistoryError> {
        if bytes.len() > MAX {
            return Err(HistoryError::TooLarge);
        }
        if !Self::complete(bytes) {
            return Err(HistoryError::Incomplete);
        }
        // A reason may name a restore point in the server's encoding, whatever that is.
        let text = String::from_utf8_lossy(bytes);
        let mut entries: Vec<HistoryEntry> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line_number = at + 1;
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let entry = entry(trimmed).ok_or_else(|| HistoryError::Line {
                line: line_number,
                text: trimmed.escape_debug().to_string(),
            })?;
            let ascends = entries.last().is_none_or(|last| last.parent < entry.parent);
            if !ascends || entry.parent >= timeline {
                return Err(HistoryError::Order {
                    line: line_number,
                    timeline,
                });
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err(HistoryError::Empty);
        }
        Ok(Self { timeline, entries })
    }

    /// Whether the last line has its end: PostgreSQL writes one after every line.
    #[must_use]
    pub fn complete(bytes: &[u8]) -> bool {
        bytes.last() == Some(&b'\n')
    }
}

/// `1`, `0/3000000` and `no recovery target specified`, with tabs between.
fn entry(line: &str) -> Option<HistoryEntry> {
    let mut words = line.splitn(3, char::is_whitespace);
    let parent = words.next()?;
    // `parse` alone also takes a `+`.
    let parent: u32 = parent
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| parent.parse().ok())??;
    Some(HistoryEntry {
        parent: TimelineId::new(parent)?,
        switch: words.next()?.parse().ok()?,
        reason: words.next().unwrap_or_default().trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<History, HistoryError> {
        History::parse(TimelineId::new(3).unwrap(), text.as_bytes())
    }

    #[test]
    fn ancestors_are_read_oldest_first() {
        let history = parse(
            "1\t0/3000000\tno recovery target specified\n\n2\t16/B374D848\tbefore 2000-01-01\n",
        )
        .unwrap();
        assert_eq!(history.entries.len(), 2);
        assert_eq!(history.entries[1].switch.to_string(), "16/B374D848");
        assert_eq!(history.entries[0].reason, "no recovery target specified");
    }

    #[test]
    fn a_cut_file_is_incomplete_and_nonsense_is_refused() {
        assert_eq!(
            parse("1\t0/3000000\tno reco"),
            Err(HistoryError::Incomplete)
        );
        assert_eq!(parse(""), Err(HistoryError::Incomplete));
        assert_eq!(parse("\n"), Err(HistoryError::Empty));
        for bad in [
            "x\t0/1\ty\n",
            "1\n",
            "2\t0/1\ta\n1\t0/2\tb\n",
            "3\t0/1\ta\n",
            "+1\t0/1\ta\n",
            "1\t0/b\ta\n",
            "1\t0/1FFFFFFFF\ta\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_reason_in_another_encoding_is_no_reason_to_refuse() {
        let bytes = b"1\t0/3000000\tat restore point \"\xfcber\"\n";
        let history = History::parse(TimelineId::new(2).unwrap(), bytes).unwrap();
        assert_eq!(history.entries[0].switch.to_string(), "0/3000000");
    }

    proptest! {
        #[test]
        fn what_postgresql_writes_is_read_back(
            switches in proptest::collection::vec((1_u32..1000, any::<u64>(), "[ -~]{1,60}"), 1..6),
        ) {
            // As `writeTimeLineHistory` does: the parent's file, an empty line, the new line.
            let (mut text, mut parent, mut expected) = (String::new(), 0, Vec::new());
            for (step, switch, reason) in switches {
                parent += step;
                let entry = HistoryEntry {
                    parent: TimelineId::new(parent).unwrap(),
                    switch: Lsn::new(switch),
                    reason: reason.trim().to_owned(),
                };
                let gap = if text.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}{parent}\t{}\t{reason}\n", entry.switch));
                expected.push(entry);
            }
            let timeline = TimelineId::new(parent + 1).unwrap();
            let history = History::parse(timeline, text.as_bytes()).unwrap();
            prop_assert_eq!(history.entries, expected);
            // Cut anywhere inside its last line, it is seen to be cut.
            let last = text[..text.len() - 1].rfind('\n').map_or(0, |at| at + 1);
            for end in last + 1..text.len() {
                prop_assert_eq!(
                    History::parse(timeline, &text.as_bytes()[..end]),
                    Err(HistoryError::Incomplete)
                );
            }
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = History::parse(TimelineId::new(9).unwrap(), &bytes);
        }
    }
}
