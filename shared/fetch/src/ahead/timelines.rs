//! Which timeline's segment PostgreSQL asks for at a position.

use walferry_wal::{History, SegmentName, SegmentSize, TimelineId};

/// The timelines of a recovery.
#[derive(Clone, Debug)]
pub(super) struct Timelines {
    size: SegmentSize,
    history: Option<History>,
}

impl Timelines {
    /// One timeline, whichever recovery is on.
    pub(super) fn of_one(size: SegmentSize) -> Self {
        let history = None;
        Self { size, history }
    }

    /// A timeline with its ancestors.
    pub(super) fn of(size: SegmentSize, history: History) -> Self {
        let history = Some(history);
        Self { size, history }
    }

    pub(super) fn size(&self) -> SegmentSize {
        self.size
    }

    /// The one that is followed, if its history is known.
    pub(super) fn timeline(&self) -> Option<TimelineId> {
        self.history.as_ref().map(|history| history.timeline)
    }

    /// The `count` segments behind `position`, and whether `position` is one that a recovery
    /// along these timelines asks for. If it is not, they are those of its own timeline.
    ///
    /// PostgreSQL takes the newest timeline that had begun by then (`XLogFileReadAnyTLI`). In
    /// the very segment of a switch it falls back to the older one when the newer one's is
    /// absent; that one is then not there ahead of time, and is fetched when it is asked for.
    pub(super) fn next(&self, position: &SegmentName, count: u64) -> (Vec<SegmentName>, bool) {
        let Ok(number) = position.number(self.size) else {
            return (Vec::new(), false);
        };
        let fits = self.at(number).is_none_or(|t| t == position.timeline());
        // The fallback of the switch's segment.
        let before = number.checked_sub(1).and_then(|number| self.at(number));
        let fits = fits || before.is_some_and(|t| t == position.timeline());
        let segments = (number + 1..=number.saturating_add(count)).filter_map(|number| {
            let followed = self.at(number).filter(|_| fits);
            let timeline = followed.unwrap_or(position.timeline());
            SegmentName::from_number(timeline, number, self.size)
        });
        (segments.collect(), fits)
    }

    fn at(&self, number: u64) -> Option<TimelineId> {
        let history = self.history.as_ref()?;
        let begun = |switch: walferry_wal::Lsn| switch.get() / self.size.bytes() <= number;
        let mut timeline = history.timeline;
        for entry in history.entries.iter().rev() {
            if begun(entry.switch) {
                return Some(timeline);
            }
            timeline = entry.parent;
        }
        Some(timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(timelines: &Timelines, position: &str) -> Vec<String> {
        let (segments, _) = timelines.next(&position.parse().unwrap(), 3);
        segments.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_segments_behind_a_position_are_those_of_the_newest_timeline_that_had_begun() {
        let size = SegmentSize::DEFAULT;
        let one = Timelines::of_one(size);
        assert_eq!(
            next(&one, "0000000100000000000000FE"),
            [
                "0000000100000000000000FF",
                "000000010000000100000000",
                "000000010000000100000001"
            ]
        );
        let text = b"1\t0/5000000\tno\n2\t0/6800000\tno\n";
        let history = History::parse(TimelineId::new(3).unwrap(), text).unwrap();
        let three = Timelines::of(size, history);
        assert_eq!(
            next(&three, "000000010000000000000003"),
            [
                "000000010000000000000004",
                "000000020000000000000005",
                "000000030000000000000006"
            ]
        );
        // A recovery along timeline 1 alone.
        assert_eq!(
            next(&three, "000000010000000000000007"),
            [
                "000000010000000000000008",
                "000000010000000000000009",
                "00000001000000000000000A"
            ]
        );
        // The switch's segment, of the timeline that was left there.
        assert!(
            three
                .next(&"000000010000000000000005".parse().unwrap(), 1)
                .1
        );
    }
}
