//! Which base backups a repository's window rests on, and what WAL they need.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use walferry_wal::{SegmentName, SegmentSize, TimelineId, WalFile};

use crate::inventory::{Base, Inventory, Lies, RepositorySet};
use crate::lineage::{Lineage, Reach};
use crate::plan::BaseDeletion;
use crate::policy::Policy;

/// The bases that one repository keeps WAL for.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    /// Positions in `Inventory::bases`.
    pub(crate) kept: BTreeSet<usize>,
    /// Those that a person keeps: of older ones only what makes them consistent is needed.
    pub(crate) marked: BTreeSet<usize>,
    /// A base that counts was complete before the window and reaches the newest timeline.
    pub(crate) proven: bool,
    /// The newest that counts and was complete before the window: it stands in for older ones.
    pub(crate) instead: Option<usize>,
    /// How many of the repository's are from before the window.
    pub(crate) before: usize,
    /// Those of them that do not count here, as WAL of theirs is missing, or the base itself.
    pub(crate) incomplete: Vec<usize>,
}

impl Bases {
    /// Chooses for the repository at `position`.
    ///
    /// A label counts only if the WAL from its start to its stop is verified there. Kept
    /// are: the newest base that counts and was complete before the window; for each
    /// timeline that grew within the window the newest such base that reaches it (after a
    /// recovery into the past the newest base of all may lie on an abandoned timeline);
    /// every later base, whether it counts or not. If none counts, the newest one of those
    /// before the window is kept all the same: it may be completed from elsewhere.
    ///
    /// One of ours plays no part in a repository where it is not, and does not count in one
    /// that only gets it later.
    pub(crate) fn choose(
        inventory: &Inventory,
        size: SegmentSize,
        lineage: &Lineage,
        (policy, now): (&Policy, DateTime<Utc>),
        position: usize,
    ) -> Self {
        let cutoff = policy.cutoff(now);
        let verified = verified_segments(inventory, position);
        let mut chosen = Self::default();
        let mut counting = Vec::new();
        let mut before = Vec::new();
        for (number, base) in inventory.bases.iter().enumerate() {
            if !base.belongs_in(position) {
                continue;
            }
            if base.kept_until.is_some_and(|until| until > now) {
                chosen.marked.insert(number);
            }
            if base.stopped_at >= cutoff {
                chosen.kept.insert(number);
                continue;
            }
            before.push(number);
            if base.is_complete_in(position) && is_complete(base, size, &verified) {
                counting.push(number);
            } else {
                chosen.incomplete.push(number);
            }
        }
        chosen.before = before.len();
        let newest = |among: &[usize], suits: &dyn Fn(&Base) -> bool| {
            let suiting = among
                .iter()
                .filter(|number| suits(&inventory.bases[**number]));
            suiting
                .max_by_key(|number| (inventory.bases[**number].stopped_at, **number))
                .copied()
        };
        chosen.kept.extend(newest(&counting, &|_| true));
        chosen.instead = newest(&counting, &|_| true);
        if counting.is_empty() {
            chosen.kept.extend(newest(&before, &|_| true));
        }
        chosen
            .kept
            .extend(newest_complete(inventory, position, policy.min_bases));

        for timeline in targets(inventory, cutoff) {
            let reaching = newest(&counting, &|base| {
                reaches(base, timeline, lineage) == Some(true)
            });
            // Targets come in order: what holds for the last is the answer.
            chosen.proven = reaching.is_some();
            chosen.kept.extend(reaching);
            if reaching.is_none() {
                // A history is missing, so any base that may lead there could be the one,
                // and the newest may have begun after the way parted: keep for all.
                chosen.kept.extend(counting.iter().filter(|number| {
                    reaches(&inventory.bases[**number], timeline, lineage).is_none()
                }));
            }
        }
        chosen
    }
}

/// The bases of ours that may go, as a unit, from some repositories: nobody keeps them, and every
/// moment of the window is recovered there without them, from a newer one.
pub(crate) fn expired(inventory: &Inventory, needs: &[Bases]) -> Vec<BaseDeletion> {
    let mut expired = Vec::new();
    for (number, base) in inventory.bases.iter().enumerate() {
        let Lies::Here { complete, .. } = base.lies else {
            continue;
        };
        let mut deletion = BaseDeletion {
            label: base.label.clone(),
            copies: RepositorySet::EMPTY,
            instead: String::new(),
        };
        for position in complete.positions() {
            let Some(bases) = needs.get(position).filter(|bases| bases.proven) else {
                continue;
            };
            let Some(instead) = bases.instead.map(|instead| &inventory.bases[instead]) else {
                continue;
            };
            let stays = bases.kept.contains(&number) || bases.marked.contains(&number);
            if !stays && instead.stopped_at > base.stopped_at {
                deletion.copies = deletion.copies.with(position);
                deletion.instead.clone_from(&instead.label);
            }
        }
        if !deletion.copies.is_empty() {
            expired.push(deletion);
        }
    }
    expired
}

/// The newest of ours that are complete there, at least one.
fn newest_complete(inventory: &Inventory, position: usize, count: usize) -> Vec<usize> {
    let ours = inventory.bases.iter().enumerate().filter(
        |(_, base)| matches!(base.lies, Lies::Here { complete, .. } if complete.contains(position)),
    );
    let mut ours: Vec<_> = ours
        .map(|(number, base)| (base.stopped_at, number))
        .collect();
    ours.sort_unstable();
    let newest = ours.into_iter().rev().map(|(_, number)| number);
    newest.take(count.max(1)).collect()
}

/// Whether recovery from `base` may read the segment `number` of `timeline`; no history
/// file, no proof: yes.
pub(crate) fn may_need(
    base: &Base,
    timeline: TimelineId,
    number: u64,
    size: SegmentSize,
    lineage: &Lineage,
) -> bool {
    let Ok(start) = base.start_segment.number(size) else {
        return true;
    };
    if number < start {
        // WAL only goes on from a base's start, on its timeline and on those that came
        // from it later.
        return false;
    }
    match lineage.reach(base.start_segment.timeline(), timeline) {
        Reach::Same | Reach::Unknown => true,
        // The segment of the switch exists on both timelines.
        Reach::Ancestor(switch) => number <= switch.get() / size.bytes(),
        // Branched off before the base began: recovery to there needs an older base.
        Reach::Descendant(switch) => switch >= base.start_lsn,
        Reach::Unrelated => false,
    }
}

/// Whether a base that is kept beyond the window is not consistent without that segment. What
/// came later it is not kept for, or one mark would keep all WAL for ever.
pub(crate) fn makes_consistent(
    base: &Base,
    timeline: TimelineId,
    number: u64,
    size: SegmentSize,
) -> bool {
    let (Ok(start), Ok(stop)) = (
        base.start_segment.number(size),
        base.stop_segment.number(size),
    ) else {
        return true;
    };
    // A base from a standby may have followed a promotion.
    let timelines = base.start_segment.timeline()..=base.stop_segment.timeline();
    (start..=stop).contains(&number) && timelines.contains(&timeline)
}

/// Whether recovery from `base` can follow `timeline`; `None` if a history is missing.
fn reaches(base: &Base, timeline: TimelineId, lineage: &Lineage) -> Option<bool> {
    match lineage.reach(base.start_segment.timeline(), timeline) {
        Reach::Same => Some(true),
        // A base is consistent only from its stop on.
        Reach::Descendant(switch) => Some(switch >= base.stop_lsn),
        Reach::Ancestor(_) | Reach::Unrelated => Some(false),
        Reach::Unknown if timeline < base.start_segment.timeline() => Some(false),
        Reach::Unknown => None,
    }
}

/// The timelines that the window is about: those that grew within it. If none did, its
/// every moment is the last state archived, and that is on the newest one.
fn targets(inventory: &Inventory, cutoff: DateTime<Utc>) -> BTreeSet<TimelineId> {
    let with_wal = || {
        inventory
            .files
            .iter()
            .filter(|file| file.file.segment().is_some())
    };
    let live = with_wal().filter(|file| file.archived_at >= cutoff);
    let live: BTreeSet<_> = live.map(|file| file.file.timeline()).collect();
    if live.is_empty() {
        let newest = with_wal().map(|file| file.file.timeline()).max();
        return newest.into_iter().collect();
    }
    live
}

fn verified_segments(inventory: &Inventory, position: usize) -> HashSet<SegmentName> {
    let here = inventory.files.iter();
    here.filter(|file| file.verified.contains(position))
        .filter_map(|file| match file.file {
            WalFile::Segment(name) => Some(name),
            // A `.partial` never substitutes for the segment.
            WalFile::Partial(_) | WalFile::History(_) | WalFile::Label { .. } => None,
        })
        .collect()
}

/// Whether every segment from the base's start to its stop is among `verified`.
fn is_complete(base: &Base, size: SegmentSize, verified: &HashSet<SegmentName>) -> bool {
    let (Ok(start), Ok(stop)) = (
        base.start_segment.number(size),
        base.stop_segment.number(size),
    ) else {
        return false;
    };
    let timeline = base.start_segment.timeline();
    // The set ends the loop early: it is never longer than what is archived.
    start <= stop
        && (start..=stop).all(|number| {
            SegmentName::from_number(timeline, number, size)
                .is_some_and(|name| verified.contains(&name))
        })
}
