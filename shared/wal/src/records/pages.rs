use super::cursor::Cursor;
use crate::{PageHeader, SegmentName};

/// The pages of one segment. Offsets count from its first byte.
pub(super) struct Pages<'a> {
    bytes: &'a [u8],
    start: u64,
    block: usize,
    magic: u16,
    newest_timeline: u32,
}

/// The header of one page, found to be valid.
pub(super) struct Page {
    /// Bytes of the record that began on an earlier page; 0 when none did.
    pub(super) remaining: usize,
    /// The record that was to go on here was lost in a crash and is not to be missed.
    pub(super) overwrites: bool,
    /// Where the header ends.
    pub(super) body: usize,
    /// Where the next page begins.
    pub(super) end: usize,
}

/// Where the rest of a record leads.
pub(super) enum Rest {
    /// The record ends before this offset.
    Ends(usize),
    /// It goes on in the next segment.
    Continues,
    /// It was given up; records go on with the page at this offset.
    Overwritten(usize),
    /// The next page does not carry it on.
    Broken,
}

const CONTINUES: u16 = 0x0001;
const LONG_HEADER: u16 = 0x0002;
const OVERWRITES: u16 = 0x0008;
const ALL_FLAGS: u16 = 0x000F;
const SHORT_SIZE: usize = 24;

impl<'a> Pages<'a> {
    /// `None` when no PostgreSQL has pages of that size.
    pub(super) fn new(bytes: &'a [u8], header: &PageHeader, name: &SegmentName) -> Option<Self> {
        let block = usize::try_from(header.block_size).ok()?;
        // `configure --with-wal-blocksize`: 1 to 64 kB.
        (block.is_power_of_two() && (1 << 10..=1 << 16).contains(&block)).then(|| Self {
            bytes,
            start: header.page_address.get(),
            block,
            magic: header.magic,
            newest_timeline: name.timeline().get(),
        })
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self, from: usize, to: usize) -> Option<&'a [u8]> {
        self.bytes.get(from..to)
    }

    /// The position in WAL of an offset.
    pub(super) const fn position(&self, offset: usize) -> u64 {
        // At most 1 GiB behind a start that a name has: no overflow but in the very last one.
        self.start.saturating_add(offset as u64)
    }

    /// Whether a page begins there.
    pub(super) const fn is_boundary(&self, offset: usize) -> bool {
        offset.is_multiple_of(self.block)
    }

    /// Where the page that holds the offset ends.
    pub(super) const fn end_of_page(&self, offset: usize) -> usize {
        offset - offset % self.block + self.block
    }

    /// The page that begins at `at`; `None` when its header is not valid there, as in a
    /// segment that was used before.
    pub(super) fn page(&self, at: usize) -> Option<Page> {
        let mut header = Cursor::new(self.bytes.get(at..)?);
        let (magic, info, timeline) = (header.u16()?, header.u16()?, header.u32()?);
        let (address, remaining) = (header.u64()?, header.u32()?);
        let long = at == 0;
        let valid = magic == self.magic
            && info & !ALL_FLAGS == 0
            && (info & LONG_HEADER != 0) == long
            && address == self.position(at)
            // A promotion in the middle of a segment raises it; nothing lowers it.
            && (self.timeline_before(at)..=self.newest_timeline).contains(&timeline);
        let continues = info & CONTINUES != 0;
        let remaining = usize::try_from(remaining).ok()?;
        let size = if long { PageHeader::SIZE } else { SHORT_SIZE };
        (valid && continues == (remaining > 0)).then_some(Page {
            remaining,
            overwrites: info & OVERWRITES != 0,
            body: at + size,
            end: at + self.block,
        })
    }

    fn timeline_before(&self, at: usize) -> u32 {
        let before = at.checked_sub(self.block).and_then(|before| {
            let mut header = Cursor::new(self.bytes.get(before..)?);
            header.skip(4)?;
            header.u32()
        });
        before.unwrap_or(1)
    }

    /// Follows a record from page to page, the first of which begins at `at`. `left` is how
    /// much of it must be left there, if that is known.
    pub(super) fn rest(
        &self,
        mut at: usize,
        mut left: Option<usize>,
        mut take: impl FnMut(&'a [u8]),
    ) -> Rest {
        loop {
            if at == self.len() {
                return Rest::Continues;
            }
            let Some(page) = self.page(at) else {
                return Rest::Broken;
            };
            if page.overwrites {
                return Rest::Overwritten(at);
            }
            if page.remaining == 0 || left.is_some_and(|left| left != page.remaining) {
                return Rest::Broken;
            }
            let here = page.remaining.min(page.end - page.body);
            take(&self.bytes[page.body..page.body + here]);
            if here == page.remaining {
                return Rest::Ends((page.body + here).next_multiple_of(super::record::ALIGN));
            }
            left = Some(page.remaining - here);
            at = page.end;
        }
    }
}
