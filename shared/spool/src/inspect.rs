//! Whether a file is what its name says, before anybody packs it.

use walferry_wal::{
    HeaderError, History, HistoryError, Label, LabelError, PageHeader, SegmentName, SegmentSize,
    SystemId, UnknownMagic, WalFile,
};

use crate::directory::Directory;
use crate::open::{OpenError, ReadError, SpooledFile, open_checked};
use crate::suspicion::Suspicion;

/// No history file or label is anywhere near this size.
const MAX_TEXT: u64 = 1 << 20;

/// A file that passed every check that its own content allows.
#[derive(Debug)]
pub struct Inspected {
    pub file: SpooledFile,
    pub content: Content,
}

/// What was found inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A segment or a `.partial`.
    Pages {
        header: PageHeader,
        /// Worth a warning; archived all the same.
        unknown_magic: Option<UnknownMagic>,
    },
    History(History),
    Label(Label),
}

/// The file was not found fit.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl InspectError {
    /// The suspicion, when it is one and not an error of the file system.
    #[must_use]
    pub fn suspicion(&self) -> Option<&Suspicion> {
        match self {
            Self::Open(OpenError::Suspicious { suspicion, .. }) => Some(suspicion),
            Self::Open(OpenError::Gone { .. } | OpenError::Io { .. }) | Self::Read(_) => None,
        }
    }
}

/// Opens `file` and compares its content with its name, size and system.
///
/// # Errors
/// A suspicion, or an error of the file system.
pub fn inspect(
    directory: &Directory,
    file: &WalFile,
    expected_system: Option<SystemId>,
) -> Result<Inspected, InspectError> {
    let spooled = open_checked(directory, file)?;
    let content = match file {
        WalFile::Segment(name) | WalFile::Partial(name) => pages(&spooled, name, expected_system)?,
        WalFile::History(timeline) => match History::parse(*timeline, &text(&spooled)?) {
            Ok(history) => Content::History(history),
            Err(HistoryError::Incomplete) => {
                return Err(suspicious(&spooled, Suspicion::IncompleteHistory));
            }
            Err(error) => return Err(suspicious(&spooled, Suspicion::BadHistory(error))),
        },
        WalFile::Label { segment, offset } => match Label::parse(&text(&spooled)?) {
            Ok(label) if names(&label, segment, *offset) => Content::Label(label),
            Ok(_) => return Err(suspicious(&spooled, Suspicion::LabelOfAnother)),
            Err(LabelError::Incomplete) => {
                return Err(suspicious(&spooled, Suspicion::IncompleteLabel));
            }
            Err(error) => return Err(suspicious(&spooled, Suspicion::BadLabel(error))),
        },
    };
    Ok(Inspected {
        file: spooled,
        content,
    })
}

/// The header of the first page of a segment.
///
/// # Errors
/// When there is none; `Short` while a writer may be at work.
pub fn read_header(spooled: &SpooledFile) -> Result<PageHeader, InspectError> {
    let mut buffer = [0; PageHeader::SIZE];
    let head = spooled.piece(0, &mut buffer)?;
    PageHeader::parse(head).map_err(|error| match error {
        HeaderError::Short(_) => short(spooled, None),
        // A size that no segment has, so more is still to come, whatever the head is.
        _ if unfinished(spooled.id().size) => short(spooled, None),
        other => suspicious(spooled, Suspicion::HeaderMismatch(other)),
    })
}

fn pages(
    spooled: &SpooledFile,
    name: &SegmentName,
    expected_system: Option<SystemId>,
) -> Result<Content, InspectError> {
    let header = read_header(spooled)?;
    let size = spooled.id().size;
    let expected = header.segment_size.bytes();
    if size < expected {
        return Err(short(spooled, Some(expected)));
    }
    match header.check(name, size, expected_system) {
        Ok(unknown_magic) => Ok(Content::Pages {
            header,
            unknown_magic,
        }),
        Err(HeaderError::System { expected, found }) => Err(suspicious(
            spooled,
            Suspicion::OtherSystem { expected, found },
        )),
        Err(error) => Err(suspicious(spooled, Suspicion::HeaderMismatch(error))),
    }
}

/// The content of a history file or label.
fn text(spooled: &SpooledFile) -> Result<Vec<u8>, InspectError> {
    let mut bytes = Vec::new();
    if spooled.id().size > MAX_TEXT {
        return Err(suspicious(
            spooled,
            match spooled.file() {
                WalFile::Label { .. } => Suspicion::BadLabel(LabelError::TooLarge),
                WalFile::History(_) | WalFile::Segment(_) | WalFile::Partial(_) => {
                    Suspicion::BadHistory(HistoryError::TooLarge)
                }
            },
        ));
    }
    spooled.read_whole(&mut bytes)?;
    Ok(bytes)
}

/// The name holds where the backup began: the segment, and the offset in it.
fn names(label: &Label, segment: &SegmentName, offset: u32) -> bool {
    // Offsets are below the segment size, which is a power of two, at most 1 GiB: the low
    // 20 bits are those of the offset whatever the size.
    let low = (1 << 20) - 1;
    label.start_segment == *segment && label.start_lsn.get() & low == u64::from(offset) & low
}

/// Whether a segment of this size is still growing: below 1 GiB, and none that a segment has.
fn unfinished(size: u64) -> bool {
    size < 1 << 30 && SegmentSize::try_from(size).is_err()
}

fn short(spooled: &SpooledFile, expected: Option<u64>) -> InspectError {
    let size = spooled.id().size;
    suspicious(spooled, Suspicion::Short { size, expected })
}

fn suspicious(spooled: &SpooledFile, suspicion: Suspicion) -> InspectError {
    InspectError::Open(OpenError::Suspicious {
        file: *spooled.file(),
        suspicion,
    })
}
