//! One file's fate, and the sums over all that stay.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use walferry_wal::{SegmentName, SegmentSize, WalFile};

use crate::bases::{Bases, makes_consistent, may_need};
use crate::explain::{Because, Reason};
use crate::inventory::{Base, FileFacts, Inventory, RepositorySet, Status};
use crate::lineage::Lineage;
use crate::plan::Kept;

/// What becomes of one file's copies.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) delete: RepositorySet,
    pub(crate) reason: Option<Reason>,
    pub(crate) kept: Vec<(Because, RepositorySet)>,
}

impl Verdict {
    pub(crate) fn of(
        file: &FileFacts,
        inventory: &Inventory,
        size: SegmentSize,
        lineage: &Lineage,
        needs: &[Bases],
        cutoff: DateTime<Utc>,
    ) -> Self {
        let copies = file.verified.or(file.due).or(file.expiring);
        let keep = |because| Self {
            kept: vec![(because, copies)],
            ..Self::default()
        };
        let Some(segment) = file.file.segment() else {
            return keep(Because::History);
        };
        match file.status {
            Status::Unfinished => return keep(Because::NotVerified),
            Status::Verified | Status::Expiring => {}
        }
        if file.busy {
            return keep(Because::Busy);
        }
        let Ok(number) = segment.number(size) else {
            return keep(Because::NotNumbered);
        };
        // What was begun is gone or half gone: nothing can rely on it any more, so it is
        // finished even if a setting changed in between.
        let mut verdict = Self {
            delete: file.expiring,
            ..Self::default()
        };
        let rest = copies.without(file.expiring);
        if file.archived_at >= cutoff {
            if !rest.is_empty() {
                verdict.kept.push((Because::WithinWindow, rest));
            }
        } else {
            for position in rest.positions() {
                let timeline = segment.timeline();
                let among = |numbers: &BTreeSet<usize>, needs: &dyn Fn(&Base) -> bool| {
                    let bases = numbers.iter().map(|base| &inventory.bases[*base]);
                    bases.into_iter().find(|base| needs(base))
                };
                let needed = needs.get(position).and_then(|bases| {
                    let needed = among(&bases.kept, &|base| {
                        may_need(base, timeline, number, size, lineage)
                    });
                    let needed = needed.map(|base| Because::NeededByBase {
                        segment: base.start_segment,
                        stopped_at: base.stopped_at,
                    });
                    needed.or_else(|| {
                        among(&bases.marked, &|base| {
                            makes_consistent(base, timeline, number, size)
                        })
                        .map(|base| Because::NeededByKeptBase {
                            label: base.label.clone(),
                        })
                    })
                });
                match needed {
                    Some(because) => verdict.keep(because, position),
                    None => verdict.delete = verdict.delete.with(position),
                }
            }
        }
        if !verdict.delete.is_empty() {
            verdict.reason = Some(if verdict.delete == file.expiring {
                Reason::Begun
            } else if inventory.bases.is_empty() {
                Reason::AgeAlone
            } else {
                Reason::NeededByNoBase
            });
        }
        verdict
    }

    fn keep(&mut self, because: Because, position: usize) {
        match self.kept.iter_mut().find(|(known, _)| *known == because) {
            Some((_, copies)) => *copies = copies.with(position),
            None => self
                .kept
                .push((because, RepositorySet::EMPTY.with(position))),
        }
    }
}

/// Sums up what stays, reason by reason.
#[derive(Default)]
pub(crate) struct KeptCounter(BTreeMap<(Because, RepositorySet), Kept>);

impl KeptCounter {
    pub(crate) fn count(&mut self, because: &Because, copies: RepositorySet, file: WalFile) {
        let entry = self.0.entry((because.clone(), copies));
        let kept = entry.or_insert_with(|| Kept {
            because: because.clone(),
            copies,
            files: 0,
            first: file,
            last: file,
        });
        kept.files += 1;
        if order(&file) < order(&kept.first) {
            kept.first = file;
        }
        if order(&file) > order(&kept.last) {
            kept.last = file;
        }
    }

    pub(crate) fn finish(self) -> Vec<Kept> {
        self.0.into_values().collect()
    }
}

/// WAL order; a label comes before its segment, so that a run cut short never leaves a
/// label whose WAL is gone.
pub(crate) fn order(file: &WalFile) -> (Option<SegmentName>, u8, WalFile) {
    let rank = match file {
        WalFile::History(_) => 0,
        WalFile::Label { .. } => 1,
        WalFile::Segment(_) => 2,
        WalFile::Partial(_) => 3,
    };
    (file.segment(), rank, *file)
}

pub(crate) fn kept_for_want_of_a_size(inventory: &Inventory) -> Vec<Kept> {
    let mut kept = KeptCounter::default();
    for file in &inventory.files {
        let because = match file.file {
            WalFile::History(_) => Because::History,
            WalFile::Segment(_) | WalFile::Partial(_) | WalFile::Label { .. } => {
                Because::NotNumbered
            }
        };
        kept.count(
            &because,
            file.verified.or(file.due).or(file.expiring),
            file.file,
        );
    }
    kept.finish()
}
