//! What a plan is made from: facts about one key prefix, as the catalog knows them.

use chrono::{DateTime, Utc};
use walferry_proof::{KeyPrefix, RepositoryName};
use walferry_wal::{History, Lsn, SegmentName, SegmentSize, WalFile};

/// Everything known about one key prefix.
#[derive(Debug, Clone)]
pub struct Inventory {
    pub key_prefix: KeyPrefix,
    /// `None` while no segment was seen: then nothing can be numbered and nothing goes.
    pub segment_size: Option<SegmentSize>,
    /// Every repository that holds a copy; [`RepositorySet`] counts in this order.
    pub repositories: Vec<RepositoryName>,
    pub files: Vec<FileFacts>,
    pub bases: Vec<Base>,
    pub histories: Vec<History>,
}

/// One file in the archive. Small: there can be millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    pub file: WalFile,
    pub status: Status,
    /// The later of the file's own time and the time at which it was verified (for an
    /// adopted object: LastModified). The later one, so that neither a copied time stamp
    /// nor an outage of a month makes WAL look older than it is.
    pub archived_at: DateTime<Utc>,
    /// Somebody works on it, or it still lies in an archive directory.
    pub busy: bool,
    /// Where a copy is verified.
    pub verified: RepositorySet,
    /// Where a copy is registered that is neither verified nor being deleted.
    pub due: RepositorySet,
    /// Where the deletion of a copy was begun: it is gone, or will be.
    pub expiring: RepositorySet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not yet verified in every required repository, or set aside: never touched.
    Unfinished,
    Verified,
    /// An earlier run began to delete it.
    Expiring,
}

/// A base backup: one of ours, or one that an archived `.backup` label speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub start_lsn: Lsn,
    pub stop_lsn: Lsn,
    /// Also tells the timeline.
    pub start_segment: SegmentName,
    pub stop_segment: SegmentName,
    /// Not before the backup was complete: of a label the later of its stop time and the time
    /// at which it was archived.
    pub stopped_at: DateTime<Utc>,
    /// What whoever took it called it; of ours its name in the bucket.
    pub label: String,
    pub lies: Lies,
    /// `walferry backups keep`: until then, [`DateTime::MAX_UTC`] for ever.
    pub kept_until: Option<DateTime<Utc>>,
}

/// Where a base backup itself is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lies {
    /// Somebody else took it, and knows.
    Elsewhere,
    /// It is ours.
    Here {
        complete: RepositorySet,
        /// A repository was dropped from it and gets it from another.
        coming: RepositorySet,
    },
}

impl Base {
    /// Whether recovery in that repository may begin with it, today.
    pub(crate) fn is_complete_in(&self, position: usize) -> bool {
        match self.lies {
            Lies::Elsewhere => true,
            Lies::Here { complete, .. } => complete.contains(position),
        }
    }

    /// ... or later.
    pub(crate) fn belongs_in(&self, position: usize) -> bool {
        match self.lies {
            Lies::Elsewhere => true,
            Lies::Here { complete, coming } => complete.or(coming).contains(position),
        }
    }
}

/// A few of the inventory's repositories, by their position; at most 16.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositorySet(u16);

impl RepositorySet {
    pub const LIMIT: usize = 16;
    pub const EMPTY: Self = Self(0);

    /// The first `count` repositories.
    pub fn first(count: usize) -> Self {
        (0..count).fold(Self::EMPTY, Self::with)
    }

    /// With one more. A position past the limit is not kept; [`Inventory::position`] gives
    /// out none.
    #[must_use]
    pub fn with(self, position: usize) -> Self {
        match u32::try_from(position) {
            Ok(position) if position < u16::BITS => Self(self.0 | 1 << position),
            _ => self,
        }
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn contains(self, position: usize) -> bool {
        self.and(Self::EMPTY.with(position)) != Self::EMPTY
    }

    pub fn is_empty(self) -> bool {
        self == Self::EMPTY
    }

    pub fn positions(self) -> impl Iterator<Item = usize> {
        (0..Self::LIMIT).filter(move |position| self.contains(*position))
    }
}

impl Inventory {
    pub fn new(key_prefix: KeyPrefix, segment_size: Option<SegmentSize>) -> Self {
        Self {
            key_prefix,
            segment_size,
            repositories: Vec::new(),
            files: Vec::new(),
            bases: Vec::new(),
            histories: Vec::new(),
        }
    }

    /// Where a repository stands in the sets, adding it if it is new; `None` when there
    /// are more than [`RepositorySet::LIMIT`].
    pub fn position(&mut self, repository: &RepositoryName) -> Option<usize> {
        if let Some(position) = self.repositories.iter().position(|name| name == repository) {
            return Some(position);
        }
        if self.repositories.len() == RepositorySet::LIMIT {
            return None;
        }
        self.repositories.push(repository.clone());
        Some(self.repositories.len() - 1)
    }

    pub fn names(&self, set: RepositorySet) -> Vec<RepositoryName> {
        set.positions()
            .filter_map(|position| self.repositories.get(position).cloned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_no_more() {
        let set = RepositorySet::EMPTY.with(0).with(15).with(16).with(99);
        assert_eq!(set.positions().collect::<Vec<_>>(), [0, 15]);
        assert!(set.without(RepositorySet::first(16)).is_empty());
        assert!(!set.contains(1) && !set.contains(16));
    }

    #[test]
    fn a_seventeenth_repository_gets_no_place() {
        let mut inventory = Inventory::new("wal/".parse().unwrap(), None);
        for number in 0..16 {
            let name = format!("r{number}").parse().unwrap();
            assert_eq!(inventory.position(&name), Some(number));
            assert_eq!(inventory.position(&name), Some(number));
        }
        assert_eq!(inventory.position(&"r16".parse().unwrap()), None);
    }
}
