//! Which prefix of a cluster a file belongs to: that of the database system that wrote it.
//!
//! After `walferry cluster upgrade` files of the system before may still come: the last ones,
//! or all of them when the command was given too early. They go where they belong, so that no
//! archive is split, and the next prefix waits for a system of its own.

use walferry_catalog::{Prefix, PrefixId};
use walferry_spool::Suspicion;
use walferry_wal::SystemId;

/// The systems of one cluster.
pub(crate) struct Systems {
    open: PrefixId,
    current: Option<SystemId>,
    /// Of the closed prefixes, oldest first.
    former: Vec<(SystemId, PrefixId)>,
}

impl Systems {
    /// `None` without an open prefix.
    pub(crate) fn of(prefixes: &[Prefix]) -> Option<Self> {
        let open = prefixes.iter().find(|prefix| prefix.closed_at.is_none())?;
        let closed = prefixes.iter().filter(|prefix| prefix.closed_at.is_some());
        Some(Self {
            open: open.id,
            current: open.system_id,
            former: closed
                .filter_map(|prefix| Some((prefix.system_id?, prefix.id)))
                .collect(),
        })
    }

    /// Where a segment of `system` belongs. The first one of a new system names it.
    ///
    /// # Errors
    /// A system that is none of this cluster's.
    pub(crate) fn place(&mut self, system: SystemId) -> Result<PrefixId, Suspicion> {
        if let Some((_, prefix)) = self.former.iter().find(|(known, _)| *known == system) {
            return Ok(*prefix);
        }
        match *self.current.get_or_insert(system) {
            current if current == system => Ok(self.open),
            expected => Err(Suspicion::OtherSystem {
                expected,
                found: system,
            }),
        }
    }

    /// Where a file belongs that does not say who wrote it: to the newest system known.
    pub(crate) fn place_unsigned(&self) -> PrefixId {
        match (self.current, self.former.last()) {
            (None, Some((_, prefix))) => *prefix,
            _ => self.open,
        }
    }

    pub(crate) fn is_open(&self, prefix: PrefixId) -> bool {
        self.open == prefix
    }
}
