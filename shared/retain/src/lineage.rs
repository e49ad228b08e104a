//! Which timeline comes from which, as far as history files prove it.

use std::collections::HashMap;

use walferry_wal::{History, Lsn, TimelineId};

/// What the known history files say about ancestry.
///
/// A history file names every ancestor of its timeline, but only if the server that wrote
/// it could read its parent's: without that file PostgreSQL takes the parent for the first
/// of all (`readTimeLineHistory` in `timeline.c`). So a chain is followed through the
/// parents' own files, and where it breaks above timeline 1 the answer is "unknown".
#[derive(Debug, Default)]
pub struct Lineage {
    /// Of each known timeline its nearest known ancestors with the switch out of each.
    ancestors: HashMap<TimelineId, Vec<(TimelineId, Lsn)>>,
}

/// How WAL of one timeline relates to a base backup on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The base's own timeline.
    Same,
    /// The base's timeline came from it, at this switch.
    Ancestor(Lsn),
    /// It came, over any number of timelines, from the base's timeline, at this switch.
    Descendant(Lsn),
    /// Proven: no recovery of the one reads WAL of the other.
    Unrelated,
    /// A history file is missing: nothing is proven.
    Unknown,
}

/// Result of a look for one timeline among another's ancestors.
enum Found {
    At(Lsn),
    Not,
    Unknown,
}

impl Lineage {
    pub fn new(histories: &[History]) -> Self {
        let ancestors = histories
            .iter()
            .map(|history| {
                let entries = history.entries.iter();
                let parents = entries.map(|entry| (entry.parent, entry.switch)).collect();
                (history.timeline, parents)
            })
            .collect();
        Self { ancestors }
    }

    /// How WAL on `other` relates to a base backup on `base`.
    pub fn reach(&self, base: TimelineId, other: TimelineId) -> Reach {
        // A new timeline's number is always above its parent's (`findNewestTimeLine` is
        // asked for one above the recovery target), so the order of the numbers already
        // rules out half of the relations, history files or none.
        if base == other {
            Reach::Same
        } else if other < base {
            match self.find(other, base) {
                Found::At(switch) => Reach::Ancestor(switch),
                Found::Not => Reach::Unrelated,
                Found::Unknown => Reach::Unknown,
            }
        } else {
            match self.find(base, other) {
                Found::At(switch) => Reach::Descendant(switch),
                Found::Not => Reach::Unrelated,
                Found::Unknown => Reach::Unknown,
            }
        }
    }

    /// Whether the history file of a timeline is known; timeline 1 has none.
    pub fn knows(&self, timeline: TimelineId) -> bool {
        timeline.get() == 1 || self.ancestors.contains_key(&timeline)
    }

    /// Looks for `ancestor` above `timeline`.
    fn find(&self, ancestor: TimelineId, timeline: TimelineId) -> Found {
        let mut at = timeline;
        loop {
            if at.get() == 1 {
                return Found::Not;
            }
            let Some(parents) = self.ancestors.get(&at) else {
                return Found::Unknown;
            };
            if let Some((_, switch)) = parents.iter().find(|(parent, _)| *parent == ancestor) {
                return Found::At(*switch);
            }
            // The file says nothing of the one looked for. Go on from the oldest it names,
            // which must be older, or a damaged file would lead in circles.
            match parents.iter().map(|(parent, _)| *parent).min() {
                Some(oldest) if oldest < ancestor => return Found::Not,
                Some(oldest) if oldest < at => at = oldest,
                _ => return Found::Unknown,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use walferry_wal::HistoryEntry;

    fn timeline(id: u32) -> TimelineId {
        TimelineId::new(id).unwrap()
    }

    fn history(id: u32, entries: &[(u32, u64)]) -> History {
        let entry = |(parent, switch): &(u32, u64)| HistoryEntry {
            parent: timeline(*parent),
            switch: Lsn::new(*switch),
            reason: String::new(),
        };
        History {
            timeline: timeline(id),
            entries: entries.iter().map(entry).collect(),
        }
    }

    #[track_caller]
    fn check(histories: &[History], base: u32, other: u32, expected: Reach) {
        let lineage = Lineage::new(histories);
        assert_eq!(lineage.reach(timeline(base), timeline(other)), expected);
    }

    #[test]
    fn a_full_history_names_every_ancestor() {
        let known = [history(2, &[(1, 100)]), history(4, &[(1, 100), (2, 200)])];
        check(&known, 1, 4, Reach::Descendant(Lsn::new(100)));
        check(&known, 2, 4, Reach::Descendant(Lsn::new(200)));
        check(&known, 4, 1, Reach::Ancestor(Lsn::new(100)));
        check(&known, 4, 4, Reach::Same);
    }

    #[test]
    fn a_sibling_is_unrelated_only_when_histories_say_so() {
        let known = [history(2, &[(1, 100)]), history(3, &[(1, 50)])];
        check(&known, 2, 3, Reach::Unrelated);
        check(&known, 3, 2, Reach::Unrelated);
        check(&known[..1], 2, 3, Reach::Unknown);
        check(&known[..1], 3, 2, Reach::Unknown);
    }

    #[test]
    fn a_history_cut_short_is_continued_by_its_parents_own() {
        let cut = [history(5, &[(4, 400)]), history(4, &[(1, 100), (3, 300)])];
        check(&cut, 3, 5, Reach::Descendant(Lsn::new(300)));
        check(&cut[..1], 3, 5, Reach::Unknown);
        // 2 is missing in a chain that is complete.
        check(&cut, 2, 5, Reach::Unrelated);
    }

    #[test]
    fn a_history_in_circles_proves_nothing() {
        let circle = [history(5, &[(6, 1)]), history(6, &[(5, 1)])];
        check(&circle, 2, 5, Reach::Unknown);
        check(&[history(5, &[])], 2, 5, Reach::Unknown);
    }
}
