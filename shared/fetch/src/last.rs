//! `--last FILE`: up to which file a recovery needs WAL.

use std::cmp::Ordering;

use walferry_wal::{SegmentName, WalFile};

/// What the absence of a file means to a recovery that ends with `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The plan says that it exists.
    Needed,
    /// The plan does without it.
    Beyond,
    /// The plan does not say; what lies in the repositories does.
    Open,
}

/// Where `file` lies on the way to `last`.
///
/// PostgreSQL follows one timeline, that of `last`, down through its ancestors. A segment of an
/// ancestor is asked for only where the descendants had not begun yet, so what counts is its
/// position. Of the history files PostgreSQL reads that of the timeline it follows, and copies
/// those of lower numbers where they exist, whether ancestors or not: whether such a one is
/// missing can be told only from what else lies there.
pub(crate) fn reach(last: &WalFile, file: &WalFile) -> Reach {
    if file == last {
        return Reach::Needed;
    }
    let of_timelines = file.timeline().cmp(&last.timeline());
    match (file, last.segment(), of_timelines) {
        (_, _, Ordering::Greater) => Reach::Beyond,
        // It never exists, whatever lies there.
        (WalFile::History(timeline), _, _) if timeline.get() == 1 => Reach::Open,
        (WalFile::History(_), _, Ordering::Equal) => Reach::Needed,
        (WalFile::History(_), _, Ordering::Less) => Reach::Open,
        // Nothing implies these two, and PostgreSQL never asks for them.
        (WalFile::Partial(_) | WalFile::Label { .. }, _, _) => Reach::Open,
        // A history file is where its timeline begins: everything of it lies beyond.
        (WalFile::Segment(_), None, Ordering::Equal) => Reach::Beyond,
        (WalFile::Segment(_), None, Ordering::Less) => Reach::Open,
        (WalFile::Segment(name), Some(end), _) => {
            if position(name) <= position(&end) {
                Reach::Needed
            } else {
                Reach::Beyond
            }
        }
    }
}

/// What a name says besides the timeline: 16 digits that sort as WAL does.
fn position(name: &SegmentName) -> String {
    name.to_string().split_off(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_to_the_last_file_is_needed_and_behind_it_is_not() {
        for (file, expected) in [
            ("000000020000000000000005", Reach::Needed),
            ("000000020000000000000004", Reach::Needed),
            ("000000010000000000000003", Reach::Needed),
            ("000000020000000000000006", Reach::Beyond),
            ("000000010000000000000006", Reach::Beyond),
            ("000000030000000000000001", Reach::Beyond),
            ("0000000200000001000000FF", Reach::Beyond),
            ("00000003.history", Reach::Beyond),
            ("00000002.history", Reach::Needed),
            ("00000001.history", Reach::Open),
            ("000000010000000000000005.partial", Reach::Open),
        ] {
            let last = "000000020000000000000005".parse().unwrap();
            assert_eq!(reach(&last, &file.parse().unwrap()), expected, "{file}");
        }
        let first = "000000010000000000000005".parse().unwrap();
        let file = "00000001.history".parse().unwrap();
        assert_eq!(reach(&first, &file), Reach::Open);
        let history = "00000002.history".parse().unwrap();
        for (file, expected) in [
            ("00000002.history", Reach::Needed),
            ("000000020000000000000005", Reach::Beyond),
            ("000000010000000000000005", Reach::Open),
        ] {
            assert_eq!(reach(&history, &file.parse().unwrap()), expected, "{file}");
        }
    }
}
