use super::body::{Body, body};
use super::pages::Pages;
use super::walk::Walk;
use super::{Ending, Events};
use crate::{HeaderError, PageHeader, SegmentName, SegmentSize, postgres_version};

/// The bytes are no segment of that name, or of a PostgreSQL that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    #[error("`{name}` has {found} bytes, a segment of its cluster has {expected}")]
    Length {
        name: SegmentName,
        expected: SegmentSize,
        found: usize,
    },
    #[error("the first page is not that of `{name}`")]
    Header {
        name: SegmentName,
        #[source]
        source: HeaderError,
    },
    #[error(
        "`{name}` was written by a PostgreSQL whose records are not known (page magic \
         {magic:04X}). HINT: 13 to 18 are"
    )]
    Version { name: SegmentName, magic: u16 },
    #[error("`{name}` has pages of {found} bytes, which cannot be")]
    BlockSize { name: SegmentName, found: u32 },
}

/// Reads the records that begin in one segment, the whole of which is in memory.
///
/// The tail of a record that began in an earlier segment is skipped, and one that goes on in
/// the next ends the walk. Every record's CRC-32C is checked; the walk ends at the first that is
/// not valid. In a segment of an old timeline that was left in its middle, what lies behind the
/// switch is read too: the history file says where it ceases to count.
///
/// # Errors
/// [`RecordsError`]: nothing was read. Damage behind the first page's header is no error but
/// [`Ending::EndOfWal`].
pub fn events(
    segment: &[u8],
    name: SegmentName,
    size: SegmentSize,
) -> Result<Events, RecordsError> {
    if u64::try_from(segment.len()) != Ok(size.bytes()) {
        return Err(RecordsError::Length {
            name,
            expected: size,
            found: segment.len(),
        });
    }
    let of_header = |source| RecordsError::Header { name, source };
    let header = PageHeader::parse(segment).map_err(of_header)?;
    header.check(&name, size.bytes(), None).map_err(of_header)?;
    let version = postgres_version(header.magic).ok_or(RecordsError::Version {
        name,
        magic: header.magic,
    })?;
    let pages = Pages::new(segment, &header, &name).ok_or(RecordsError::BlockSize {
        name,
        found: header.block_size,
    })?;
    let mut walk = Walk::begin(pages);
    let (mut events, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(record) = walk.next() {
        match body(&record, version) {
            Body::Event(event) => events.push(event),
            Body::Unreadable => unreadable.push(record.lsn),
            Body::Other => {}
        }
    }
    Ok(Events {
        events,
        ends_at: walk.ends_at(),
        ending: walk.ending().unwrap_or(Ending::EndOfWal),
        unreadable,
    })
}
