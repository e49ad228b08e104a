//! The plan: what may go from which repository, what stays and why. No I/O, no clock.

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, Utc};
use walferry_layout::object_key;
use walferry_proof::{ObjectKey, RepositoryName};
use walferry_wal::WalFile;

use crate::bases::{Bases, expired};
use crate::explain::{Because, Reason, Warning};
use crate::inventory::{Inventory, RepositorySet};
use crate::lineage::Lineage;
use crate::policy::Policy;
use crate::verdict::{KeptCounter, Verdict, kept_for_want_of_a_size, order};

/// Decides what nobody needs any more.
///
/// Never in it: history files, anything that is not VERIFIED, anything archived within the
/// window, and, per repository, what the bases chosen for it may need. Labels only ever
/// take something off the list that age put on it.
pub fn plan(inventory: &Inventory, policy: &Policy, now: DateTime<Utc>) -> Plan {
    let cutoff = policy.cutoff(now);
    let mut plan = Plan {
        cutoff,
        repositories: inventory.repositories.clone(),
        bases: Vec::new(),
        deletions: Vec::new(),
        kept: Vec::new(),
        warnings: Vec::new(),
        proven: vec![false; inventory.repositories.len()],
        share: 0.0,
    };
    let Some(size) = inventory.segment_size else {
        if inventory
            .files
            .iter()
            .any(|file| file.file.segment().is_some())
        {
            plan.warnings.push(Warning::SegmentSizeUnknown);
        }
        plan.kept = kept_for_want_of_a_size(inventory);
        return plan;
    };
    let lineage = Lineage::new(&inventory.histories);
    let needs: Vec<Bases> = (0..inventory.repositories.len())
        .map(|position| Bases::choose(inventory, size, &lineage, (policy, now), position))
        .collect();
    plan.bases = expired(inventory, &needs);
    plan.proven = needs.iter().map(|bases| bases.proven).collect();
    plan.warnings = warnings(inventory, &lineage, &needs, cutoff);

    let mut kept = KeptCounter::default();
    for file in &inventory.files {
        let verdicts = Verdict::of(file, inventory, size, &lineage, &needs, cutoff);
        for (because, copies) in &verdicts.kept {
            kept.count(because, *copies, file.file);
        }
        if let Some(reason) = verdicts.reason {
            plan.deletions.push(Deletion {
                file: file.file,
                key: object_key(&inventory.key_prefix, &file.file),
                copies: verdicts.delete,
                begun: file.expiring,
                reason,
            });
        }
    }
    plan.kept = kept.finish();
    plan.deletions.sort_by_key(|deletion| order(&deletion.file));
    plan.share = share(inventory, &plan.deletions);
    plan
}

/// What may go, what stays, and what a person should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Only what was archived before this moment is old enough.
    pub cutoff: DateTime<Utc>,
    /// The names behind every [`RepositorySet`] in here.
    pub repositories: Vec<RepositoryName>,
    /// Base backups that go as a unit, before the WAL that only they needed.
    pub bases: Vec<BaseDeletion>,
    /// Oldest first on each timeline, a label before its segment.
    pub deletions: Vec<Deletion>,
    pub kept: Vec<Kept>,
    pub warnings: Vec<Warning>,
    /// Per repository: whether a base backup made before the window, with its WAL verified
    /// there, reaches the newest timeline. Whether that base still exists nobody here knows.
    pub proven: Vec<bool>,
    /// Largest share, over all repositories, of a repository's verified copies that this
    /// plan would newly delete.
    pub share: f64,
}

/// One file that may go, and where from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    pub file: WalFile,
    /// The exact key, the same in every repository.
    pub key: ObjectKey,
    /// Where it may go, including `begun`.
    pub copies: RepositorySet,
    /// Where an earlier run already began.
    pub begun: RepositorySet,
    pub reason: Reason,
}

/// A base backup that may go, and where from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseDeletion {
    pub label: String,
    pub copies: RepositorySet,
    /// The newer one that recovers every moment of the window, by its label.
    pub instead: String,
}

impl fmt::Display for BaseDeletion {
    /// Why it may go.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "older than the window; `{}` recovers every moment of it",
            self.instead
        )
    }
}

/// Files that stay for one and the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub because: Because,
    pub copies: RepositorySet,
    pub files: u64,
    pub first: WalFile,
    pub last: WalFile,
}

impl Plan {
    pub fn names(&self, set: RepositorySet) -> impl Iterator<Item = &RepositoryName> {
        set.positions()
            .filter_map(|position| self.repositories.get(position))
    }

    /// Whether recovery to every moment of the window is proven in every repository, as
    /// far as labels can prove it.
    pub fn window_proven(&self) -> bool {
        !self.proven.is_empty() && self.proven.iter().all(|proven| *proven)
    }

    /// How many copies may go.
    pub fn copies(&self) -> u64 {
        let copies = self.deletions.iter();
        copies
            .map(|deletion| deletion.copies.positions().count() as u64)
            .sum()
    }
}

/// Counted per repository, as a plan may empty one and leave the other alone.
fn share(inventory: &Inventory, deletions: &[Deletion]) -> f64 {
    let shares = (0..inventory.repositories.len()).map(|position| {
        let files = inventory.files.iter();
        let there = files
            .filter(|file| file.verified.contains(position))
            .count();
        let going = deletions
            .iter()
            .filter(|deletion| deletion.copies.without(deletion.begun).contains(position));
        match going.count() {
            0 => 0.0,
            going => going as f64 / there.max(going) as f64,
        }
    });
    shares.fold(0.0, f64::max)
}

fn warnings(
    inventory: &Inventory,
    lineage: &Lineage,
    needs: &[Bases],
    cutoff: DateTime<Utc>,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if inventory.files.is_empty() {
        return warnings;
    }
    let timelines: BTreeSet<_> = inventory
        .files
        .iter()
        .map(|file| file.file.timeline())
        .collect();
    for timeline in timelines {
        if !lineage.knows(timeline) {
            warnings.push(Warning::HistoryMissing { timeline });
        }
    }
    if inventory.bases.is_empty() {
        warnings.push(Warning::NoBaseKnown { cutoff });
        return warnings;
    }
    for (repository, bases) in inventory.repositories.iter().zip(needs) {
        let repository = || repository.clone();
        for base in &bases.incomplete {
            warnings.push(Warning::BaseIncomplete {
                repository: repository(),
                segment: inventory.bases[*base].start_segment,
            });
        }
        if bases.before == bases.incomplete.len() {
            warnings.push(Warning::NoBaseBeforeWindow {
                repository: repository(),
                cutoff,
            });
        } else if !bases.proven {
            warnings.push(Warning::NewestTimelineNotReached {
                repository: repository(),
            });
        }
    }
    warnings
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "plan_laws.rs"]
mod laws;
