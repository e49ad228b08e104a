//! Where recovery is, as the process that fetches ahead is told it.

use std::io;

use walferry_wal::{SegmentName, TimelineId};

use super::space::Space;
use crate::temporary::Temporary;

impl Space {
    /// PostgreSQL was given `segment`, or is about to be.
    ///
    /// # Errors
    /// When it cannot be written, as on a full disk: then nothing is fetched ahead.
    pub fn reached(&self, segment: &SegmentName) -> io::Result<()> {
        self.tell("position", &segment.to_string())
    }

    /// PostgreSQL was given the history of `timeline`: it follows the highest that it gets.
    ///
    /// # Errors
    /// As [`Space::reached`].
    pub fn follows(&self, timeline: TimelineId) -> io::Result<()> {
        if self.followed().is_none_or(|known| known < timeline) {
            self.tell("timeline", &timeline.to_string())?;
        }
        Ok(())
    }

    /// As [`Space::reached`] was told last.
    pub(super) fn position(&self) -> Option<SegmentName> {
        self.told("position")?.parse().ok()
    }

    /// As [`Space::follows`] was told.
    pub(super) fn followed(&self) -> Option<TimelineId> {
        self.told("timeline")?.parse().ok()
    }

    pub(super) fn forget_timeline(&self) {
        self.unlink("timeline");
    }

    /// The old text or the new one is read, never half of it.
    fn tell(&self, name: &str, text: &str) -> io::Result<()> {
        let temporary = Temporary::create(self.place())?;
        io::Write::write_all(&mut temporary.handle(), text.as_bytes())?;
        temporary.rename(name.as_ref())
    }

    fn told(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path().join(name)).ok()
    }
}
