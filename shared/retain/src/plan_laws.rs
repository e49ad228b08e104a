//! Laws that hold for every plan, over random archives.

use std::collections::BTreeSet;

use proptest::prelude::*;
use walferry_wal::{SegmentName, WalFile};

use super::tests::{SIZE, base, days_ago, file, history, inventory, lsn, now, segment};
use super::*;
use crate::inventory::{Base, Lies, Status};

/// An archive as it may come about, with the truth about its timelines beside it.
#[derive(Debug, Clone)]
struct Archive {
    inventory: Inventory,
    /// Of timeline n + 2: its parent and the segment of the switch.
    parents: Vec<(u32, u64)>,
}

impl Archive {
    /// Where recovery leaves `from` on its way to `to`; from the truth, not from files.
    fn switch(&self, from: u32, to: u32) -> Option<u64> {
        let mut at = to;
        while at > from {
            let (parent, switch) = self.parents[at as usize - 2];
            if parent == from {
                return Some(switch);
            }
            at = parent;
        }
        None
    }

    fn complete(&self, base: &Base, position: usize) -> bool {
        if !base.is_complete_in(position) {
            return false;
        }
        let here: BTreeSet<WalFile> = self
            .inventory
            .files
            .iter()
            .filter(|file| file.verified.contains(position))
            .map(|file| file.file)
            .collect();
        let (start, stop) = (number(base.start_segment), number(base.stop_segment));
        let on = base.start_segment.timeline().get();
        (start..=stop).all(|at| here.contains(&WalFile::Segment(segment(on, at))))
    }

    /// What restoring `base` and replaying to the end of any timeline reads.
    fn needs(&self, base: &Base, file: WalFile) -> bool {
        let Some(name) = file.segment() else {
            return true;
        };
        let on = base.start_segment.timeline().get();
        let to = name.timeline().get();
        let after = number(name) >= number(base.start_segment);
        after
            && (on == to
                || self
                    .switch(on, to)
                    .is_some_and(|switch| lsn(switch) >= base.start_lsn))
    }

    fn after(mut self, plan: &Plan) -> Self {
        for deletion in &plan.deletions {
            let facts = self
                .inventory
                .files
                .iter_mut()
                .find(|f| f.file == deletion.file)
                .unwrap();
            facts.status = Status::Expiring;
            facts.verified = facts.verified.without(deletion.copies);
            facts.due = facts.due.without(deletion.copies);
            facts.expiring = facts.expiring.without(deletion.copies);
        }
        self.inventory
            .files
            .retain(|facts| !facts.verified.or(facts.due).or(facts.expiring).is_empty());
        self
    }
}

fn number(name: SegmentName) -> u64 {
    name.number(SIZE).unwrap()
}

const TIMELINES: u32 = 4;
const SEGMENTS: u64 = 24;

fn archives() -> impl Strategy<Value = Archive> {
    let parents = (2..=TIMELINES)
        .map(|child| (1..child, 0..SEGMENTS))
        .collect::<Vec<_>>();
    // Per file: there or not, age in days, where verified, what state.
    let facts = prop::collection::vec(
        (
            prop::bool::weighted(0.9),
            0_i64..90,
            0_usize..8,
            0_usize..12,
        ),
        (TIMELINES as usize) * (SEGMENTS as usize),
    );
    let bases = prop::collection::vec(
        (1..=TIMELINES, 0..SEGMENTS, 0_u64..3, 0_i64..90, 0_u8..6),
        0..7,
    );
    // Age follows the number for some archives, as in life, and nothing for others.
    let known = prop::collection::vec(prop::bool::weighted(0.7), TIMELINES as usize);
    (parents, facts, bases, known, any::<bool>()).prop_map(build)
}

type Fact = (bool, i64, usize, usize);
type Drawn = (
    Vec<(u32, u64)>,
    Vec<Fact>,
    Vec<(u32, u64, u64, i64, u8)>,
    Vec<bool>,
    bool,
);

fn build((parents, facts, bases, known, in_order): Drawn) -> Archive {
    let mut archive = Archive {
        inventory: inventory(),
        parents,
    };
    let mut facts = facts.into_iter();
    for on in 1..=TIMELINES {
        for at in 0..SEGMENTS {
            let (there, age, copies, state) = facts.next().unwrap();
            if !there {
                continue;
            }
            let age = if in_order {
                70 - 3 * i64::try_from(at).unwrap()
            } else {
                age
            };
            let name = match state {
                0 => WalFile::Partial(segment(on, at)),
                1 => WalFile::Label {
                    segment: segment(on, at),
                    offset: 0x28,
                },
                _ => WalFile::Segment(segment(on, at)),
            };
            let mut facts = file(name, days_ago(age));
            let two = RepositorySet::EMPTY.with(1);
            match copies {
                0 => facts.verified = RepositorySet::first(1),
                1 => (facts.verified, facts.due) = (RepositorySet::first(1), two),
                2 => (facts.verified, facts.expiring) = (RepositorySet::first(1), two),
                _ => {}
            }
            facts.status = match state {
                2 => Status::Unfinished,
                _ if copies == 2 => Status::Expiring,
                _ => Status::Verified,
            };
            facts.busy = state == 3;
            archive.inventory.files.push(facts);
        }
        archive.inventory.files.push(file(
            WalFile::History(walferry_wal::TimelineId::new(on).unwrap()),
            days_ago(80),
        ));
    }
    for (number, (on, start, length, age, lies)) in bases.into_iter().enumerate() {
        let (first, both) = (RepositorySet::first(1), RepositorySet::first(2));
        let here = |complete: RepositorySet| Lies::Here {
            complete,
            coming: both.without(complete),
        };
        archive.inventory.bases.push(Base {
            label: format!("base {number}"),
            lies: match lies {
                0 => Lies::Elsewhere,
                1 => here(first),
                2 => here(RepositorySet::EMPTY),
                _ => here(both),
            },
            kept_until: (lies == 5).then(|| days_ago(age - 45)),
            ..base(on, start, start + length, days_ago(age))
        });
    }
    for (child, known) in (2..=TIMELINES).zip(known) {
        if !known {
            continue;
        }
        let mut entries = Vec::new();
        let mut at = child;
        while at > 1 {
            let (parent, switch) = archive.parents[at as usize - 2];
            entries.insert(0, (parent, switch));
            at = parent;
        }
        archive.inventory.histories.push(history(child, &entries));
    }
    archive
}

fn planned(archive: &Archive) -> Plan {
    plan(&archive.inventory, &Policy::default(), now())
}

fn expired(plan: &Plan, base: &Base, position: usize) -> bool {
    let mut expired = plan.bases.iter();
    expired.any(|gone| gone.label == base.label && gone.copies.contains(position))
}

fn newly_deleted(plan: &Plan) -> BTreeSet<(WalFile, usize)> {
    let deletions = plan.deletions.iter();
    deletions
        .flat_map(|deletion| {
            let copies = deletion.copies.without(deletion.begun);
            copies
                .positions()
                .map(|position| (deletion.file, position))
                .collect::<Vec<_>>()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_kept_base_needs_is_kept(archive in archives()) {
        let plan = planned(&archive);
        let gone = newly_deleted(&plan);
        for position in 0..2 {
            let bases = archive.inventory.bases.iter();
            let (before, later): (Vec<&Base>, Vec<&Base>) =
                bases.partition(|base| base.stopped_at < plan.cutoff);
            let counting = before.into_iter().filter(|base| archive.complete(base, position));
            let newest = counting.max_by_key(|base| base.stopped_at);
            let newest_at = newest.map(|base| base.stopped_at);
            // Two may have ended in the same second: either will do, so neither is checked.
            let twice = archive.inventory.bases.iter().filter(|b| Some(b.stopped_at) == newest_at);
            let newest = if twice.count() == 1 { newest } else { None };
            for base in later.into_iter().chain(newest) {
                for (file, at) in &gone {
                    prop_assert!(
                        *at != position || !archive.needs(base, *file),
                        "{file} is gone from {at}, and {base:?} needs it"
                    );
                }
            }
        }
    }

    #[test]
    fn the_newest_base_the_window_s_and_a_kept_one_stay(archive in archives()) {
        let plan = planned(&archive);
        let bases = &archive.inventory.bases;
        for position in 0..2 {
            let here = bases.iter().filter(|base| match base.lies {
                Lies::Here { complete, .. } => complete.contains(position),
                Lies::Elsewhere => false,
            });
            let here: Vec<&Base> = here.collect();
            let newest = here.iter().map(|base| base.stopped_at).max();
            let mut stay = here.iter().filter(|base| !expired(&plan, base, position));
            let stays = here.is_empty() || stay.any(|base| Some(base.stopped_at) == newest);
            prop_assert!(stays, "the newest is gone from {}", position);
            for base in here {
                let kept = base.kept_until.is_some_and(|until| until > now());
                let stays = base.stopped_at >= plan.cutoff || kept;
                prop_assert!(!stays || !expired(&plan, base, position), "{base:?}");
            }
        }
    }

    #[test]
    fn every_live_timeline_keeps_the_newest_base_that_reaches_it(archive in archives()) {
        let plan = planned(&archive);
        let gone = newly_deleted(&plan);
        let live: BTreeSet<u32> = archive.inventory.files.iter()
            .filter(|f| f.archived_at >= plan.cutoff && f.file.segment().is_some())
            .map(|f| f.file.timeline().get())
            .collect();
        for (position, to) in (0..2).flat_map(|p| live.iter().map(move |to| (p, *to))) {
            let reaching: Vec<&Base> = archive.inventory.bases.iter()
                .filter(|base| base.stopped_at < plan.cutoff && archive.complete(base, position))
                .filter(|base| {
                    let on = base.start_segment.timeline().get();
                    on == to || archive.switch(on, to).is_some_and(|s| lsn(s) >= base.stop_lsn)
                })
                .collect();
            let Some(newest) = reaching.iter().map(|base| base.stopped_at).max() else {
                continue;
            };
            // Some base that is at least as new can still be replayed to the timeline's end.
            let usable = reaching.iter().filter(|base| base.stopped_at == newest).any(|base| {
                if expired(&plan, base, position) {
                    return false;
                }
                let on = base.start_segment.timeline().get();
                !gone.iter().any(|(file, at)| {
                    let there = file.timeline().get();
                    let on_the_way = there == to
                        || there == on
                        || (archive.switch(on, there).is_some() && archive.switch(there, to).is_some());
                    *at == position && on_the_way && archive.needs(base, *file)
                })
            });
            prop_assert!(usable, "no base reaches {to} in {position} any more");
        }
    }

    #[test]
    fn history_files_and_unverified_ones_and_young_ones_never_go(archive in archives()) {
        let plan = planned(&archive);
        for deletion in &plan.deletions {
            let facts = archive.inventory.files.iter().find(|f| f.file == deletion.file).unwrap();
            prop_assert!(!matches!(facts.file, WalFile::History(_)));
            prop_assert_ne!(facts.status, Status::Unfinished);
            prop_assert!(!facts.busy);
            let new = deletion.copies.without(facts.expiring);
            prop_assert!(new.is_empty() || facts.archived_at < plan.cutoff);
            prop_assert_eq!(deletion.begun, facts.expiring);
        }
    }

    #[test]
    fn labels_only_ever_keep_more_than_age_would(archive in archives()) {
        let with = newly_deleted(&planned(&archive));
        let mut without = archive.clone();
        without.inventory.bases.clear();
        let by_age = newly_deleted(&planned(&without));
        prop_assert!(with.is_subset(&by_age));
        let expired = archive.inventory.files.iter().filter(|f| {
            f.archived_at < days_ago(30) && f.status != Status::Unfinished && !f.busy
                && f.file.segment().is_some()
        });
        let copies: usize = expired
            .map(|f| f.verified.or(f.due).without(f.expiring).positions().count())
            .sum();
        prop_assert_eq!(by_age.len(), copies, "age alone takes every old copy");
    }

    #[test]
    fn a_history_file_can_only_add_to_what_goes(archive in archives()) {
        let mut blind = archive.clone();
        blind.inventory.histories.clear();
        let gone = newly_deleted(&planned(&blind));
        // Without histories nothing is proven unneeded: what goes lies before every base
        // chosen, so it goes with the truth known too, unless the truth chose an older base.
        let all_bases_later = archive.inventory.bases.iter().all(|b| b.stopped_at >= days_ago(30));
        if all_bases_later {
            prop_assert!(gone.is_subset(&newly_deleted(&planned(&archive))));
        }
    }

    #[test]
    fn after_a_run_there_is_nothing_left_to_do(archive in archives()) {
        let first = planned(&archive);
        let again = planned(&archive.after(&first));
        prop_assert_eq!(again.deletions, []);
        prop_assert_eq!(again.share, 0.0);
    }
}
