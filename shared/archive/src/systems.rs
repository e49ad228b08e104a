//! Which prefix of a cluster a file belongs to: that of the database system that wrote it.
//!
//! After `walferry cluster upgrade` files of the system before may still come: the last ones,
//! or all of them when the command was given too early. They go where they belong, so that no
//! archive is split, and the next prefix waits for a system of its own.

use walferry_catalog::{Prefix, PrefixId};
use walferry_spool::Suspicion;
use walferry_wal::{SegmentSize, SystemId};

struct Former {
    system: SystemId,
    size: Option<SegmentSize>,
    prefix: PrefixId,
}

/// The systems of one cluster.
pub(crate) struct Systems {
    open: PrefixId,
    current: Option<SystemId>,
    current_size: Option<SegmentSize>,
    /// Of the closed prefixes, oldest first.
    former: Vec<Former>,
}

impl Systems {
    /// `None` without an open prefix.
    pub(crate) fn of(prefixes: &[Prefix]) -> Option<Self> {
        let open = prefixes.iter().find(|prefix| prefix.closed_at.is_none())?;
        let closed = prefixes.iter().filter(|prefix| prefix.closed_at.is_some());
        Some(Self {
            open: open.id,
            current: open.system_id,
            current_size: open.segment_size,
            former: closed
                .filter_map(|prefix| {
                    Some(Former {
                        system: prefix.system_id?,
                        size: prefix.segment_size,
                        prefix: prefix.id,
                    })
                })
                .collect(),
        })
    }

    /// Where a segment of `system` belongs. The first one of a new system names it and its size.
    ///
    /// # Errors
    /// A system that is none of this cluster's, or a size that is not the system's: a name
    /// stands for another position then.
    pub(crate) fn place(
        &mut self,
        system: SystemId,
        size: SegmentSize,
    ) -> Result<PrefixId, Suspicion> {
        let same_size = |expected: Option<SegmentSize>, prefix| match expected {
            Some(expected) if expected != size => Err(Suspicion::OtherSize {
                expected,
                found: size,
            }),
            _ => Ok(prefix),
        };
        if let Some(former) = self.former.iter().find(|known| known.system == system) {
            return same_size(former.size, former.prefix);
        }
        match *self.current.get_or_insert(system) {
            current if current == system => {
                same_size(Some(*self.current_size.get_or_insert(size)), self.open)
            }
            expected => Err(Suspicion::OtherSystem {
                expected,
                found: system,
            }),
        }
    }

    /// Where a file belongs that does not say who wrote it: to the newest system known.
    pub(crate) fn place_unsigned(&self) -> PrefixId {
        match (self.current, self.former.last()) {
            (None, Some(former)) => former.prefix,
            _ => self.open,
        }
    }

    pub(crate) fn is_open(&self, prefix: PrefixId) -> bool {
        self.open == prefix
    }
}
