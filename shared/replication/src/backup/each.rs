//! 14: a copy per archive, in the order of the list, then one for the manifest.

use bytes::Bytes;
use postgres_protocol::message::backend::Message;

use super::event::BackupEvent;
use super::stream::Step;

/// What ends a tar file: two blocks of zeros, which a server before 15 leaves out.
const END_OF_TAR: &[u8] = &[0; 1024];

/// The copies of a server of version 14.
pub(super) struct EachArchive {
    /// Archives that have not begun yet.
    due: std::vec::IntoIter<Option<u32>>,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Between,
    Archive,
    Manifest,
}

impl EachArchive {
    pub(super) fn new(archives: Vec<Option<u32>>) -> Self {
        Self {
            due: archives.into_iter(),
            place: Place::Between,
        }
    }

    pub(super) fn step(&mut self, message: Message) -> Step {
        match (message, self.place) {
            (Message::CopyOutResponse(_), Place::Between) => match self.due.next() {
                Some(archive) => {
                    self.place = Place::Archive;
                    Step::Event(BackupEvent::Archive(archive))
                }
                None => {
                    self.place = Place::Manifest;
                    Step::Event(BackupEvent::Manifest)
                }
            },
            (Message::CopyData(body), Place::Archive | Place::Manifest) => {
                let bytes = body.into_bytes();
                if bytes.is_empty() {
                    Step::Nothing
                } else {
                    Step::Event(BackupEvent::Data(bytes))
                }
            }
            (Message::CopyDone, Place::Archive) => {
                self.place = Place::Between;
                Step::Event(BackupEvent::Data(Bytes::from_static(END_OF_TAR)))
            }
            (Message::CopyDone, Place::Manifest) => Step::Complete,
            (Message::CopyDone | Message::CopyData(_), Place::Between) => {
                Step::Wrong("data outside of a copy")
            }
            _ => Step::Wrong("something else than data"),
        }
    }
}
