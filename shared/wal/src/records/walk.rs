use std::borrow::Cow;

use super::Ending;
use super::cursor::Cursor;
use super::pages::{Pages, Rest};
use super::record::{ALIGN, Record, RecordHeader};
use crate::Lsn;

/// Goes from record to record, as `xlogreader.c` does.
pub(super) struct Walk<'a> {
    pages: Pages<'a>,
    /// Offset of the next record, or of the page that it is the first on.
    at: usize,
    /// Offset behind what is known to be whole.
    ends_at: usize,
    /// Position of the last valid record.
    previous: Option<u64>,
    ending: Option<Ending>,
}

impl<'a> Walk<'a> {
    /// Skips the tail of a record that began in an earlier segment.
    pub(super) fn begin(pages: Pages<'a>) -> Self {
        let mut walk = Self {
            pages,
            at: 0,
            ends_at: 0,
            previous: None,
            ending: None,
        };
        let begun_before = walk.pages.page(0).is_some_and(|page| page.remaining > 0);
        if begun_before && let Some(end) = walk.follow(0, None, |_| {}) {
            (walk.at, walk.ends_at) = (end, end);
        }
        walk
    }

    /// The next valid record.
    pub(super) fn next(&mut self) -> Option<Record<'a>> {
        while self.ending.is_none() {
            if self.at == self.pages.len() {
                self.ending = Some(Ending::Full);
            } else if let Some(record) = self.read() {
                return Some(record);
            }
        }
        None
    }

    pub(super) const fn ends_at(&self) -> Lsn {
        Lsn::new(self.pages.position(self.ends_at))
    }

    /// `None` while it is under way.
    pub(super) const fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// `None` when the walk is over, and when it has to go on elsewhere.
    fn read(&mut self) -> Option<Record<'a>> {
        let Some((lsn_at, first, total)) = self.first_part() else {
            self.ending = Some(Ending::EndOfWal);
            return None;
        };
        let (bytes, end) = if first.len() == total {
            (
                Cow::Borrowed(first),
                (lsn_at + total).next_multiple_of(ALIGN),
            )
        } else {
            let mut bytes = first.to_vec();
            let next_page = lsn_at + first.len();
            // Only pages that are there are taken: a length that is made up costs no memory.
            let left = total - first.len();
            let end = self.follow(next_page, Some(left), |part| bytes.extend_from_slice(part))?;
            (Cow::Owned(bytes), end)
        };
        let position = |offset| Lsn::new(self.pages.position(offset));
        let record = Record::new(bytes, position(lsn_at), position(end));
        let record = record.filter(|record| self.succeeds(&record.header, record.lsn));
        let Some(record) = record else {
            self.ending = Some(Ending::EndOfWal);
            return None;
        };
        self.previous = Some(record.lsn.get());
        (self.at, self.ends_at) = (end, end);
        if record.header.is_switch() {
            self.ending = Some(Ending::Switch);
            self.ends_at = self.pages.len();
        }
        Some(record)
    }

    /// What lies of the next record on its first page: its offset, bytes, and the length of
    /// all of it. `None` when no record can begin there.
    fn first_part(&self) -> Option<(usize, &'a [u8], usize)> {
        let mut at = self.at;
        if self.pages.is_boundary(at) {
            let page = self.pages.page(at)?;
            if page.remaining > 0 {
                return None;
            }
            at = page.body;
        }
        let rest = self.pages.bytes(at, self.pages.end_of_page(at))?;
        let total = usize::try_from(Cursor::new(rest).u32()?).ok()?;
        // Zeros where WAL ends.
        if total < RecordHeader::SIZE {
            return None;
        }
        let first = rest.get(..total).unwrap_or(rest);
        // Seen before a length is followed, where the header is not split itself.
        let lsn = Lsn::new(self.pages.position(at));
        let header = RecordHeader::parse(first);
        let succeeds = header.is_none_or(|header| self.succeeds(&header, lsn));
        succeeds.then_some((at, first, total))
    }

    /// Whether a record comes after the one before: those of a segment's last use do not.
    fn succeeds(&self, header: &RecordHeader, lsn: Lsn) -> bool {
        match self.previous {
            Some(previous) => header.previous == previous,
            None => header.previous < lsn.get(),
        }
    }

    /// Where the rest of a record ends. `None` when it does not in this segment; the walk then
    /// is over or has to go on at `self.at`.
    fn follow(
        &mut self,
        at: usize,
        left: Option<usize>,
        take: impl FnMut(&'a [u8]),
    ) -> Option<usize> {
        match self.pages.rest(at, left, take) {
            Rest::Ends(end) => return Some(end),
            Rest::Continues => self.ending = Some(Ending::Continues),
            Rest::Overwritten(at) => self.at = at,
            Rest::Broken => self.ending = Some(Ending::EndOfWal),
        }
        None
    }
}
