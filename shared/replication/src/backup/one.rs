//! From 15 on: one copy, whose messages say what they are.

use bytes::Bytes;
use postgres_protocol::message::backend::Message;

use super::event::BackupEvent;
use super::stream::Step;

/// The copy of a server from 15 on.
pub(super) struct OneCopy {
    /// Archives that have not come yet.
    due: Vec<Option<u32>>,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    /// In the copy, and no archive has begun.
    Begun,
    Archive,
    Manifest,
}

impl OneCopy {
    pub(super) fn new(archives: Vec<Option<u32>>) -> Self {
        Self {
            due: archives,
            place: Place::Before,
        }
    }

    pub(super) fn step(&mut self, message: Message) -> Step {
        match (message, self.place) {
            (Message::CopyOutResponse(_), Place::Before) => {
                self.place = Place::Begun;
                Step::Nothing
            }
            (Message::CopyData(_), Place::Before) => Step::Wrong("data before the copy"),
            (Message::CopyData(body), _) => self.data(&body.into_bytes()),
            (Message::CopyDone, Place::Manifest) => Step::Complete,
            (Message::CopyDone, _) => Step::Wrong("an end before the manifest"),
            _ => Step::Wrong("something else than data"),
        }
    }

    fn data(&mut self, bytes: &Bytes) -> Step {
        let Some((&kind, content)) = bytes.split_first() else {
            return Step::Wrong("data without a type");
        };
        match (kind, self.place) {
            (b'n', Place::Begun | Place::Archive) => self.archive(content),
            (b'm', Place::Begun | Place::Archive) if content.is_empty() => {
                if !self.due.is_empty() {
                    return Step::Wrong("the manifest before the last archive");
                }
                self.place = Place::Manifest;
                Step::Event(BackupEvent::Manifest)
            }
            (b'd', Place::Archive | Place::Manifest) if content.is_empty() => Step::Nothing,
            (b'd', Place::Archive | Place::Manifest) => {
                Step::Event(BackupEvent::Data(bytes.slice(1..)))
            }
            (b'p', _) => {
                let count = content.try_into().map(i64::from_be_bytes);
                match count.ok().and_then(|count| u64::try_from(count).ok()) {
                    Some(count) => Step::Event(BackupEvent::Progress(count)),
                    None => Step::Wrong("a malformed progress report"),
                }
            }
            _ => Step::Wrong("a kind of data that does not belong there"),
        }
    }

    /// Two texts, each ended by a NUL: the archive's name, and the tablespace's path, which
    /// the list of tablespaces had already.
    fn archive(&mut self, content: &[u8]) -> Step {
        let mut texts = content.split(|byte| *byte == 0);
        let (Some(name), Some(_path), Some(b""), None) =
            (texts.next(), texts.next(), texts.next(), texts.next())
        else {
            return Step::Wrong("a malformed head of an archive");
        };
        let Some(archive) = archive(name) else {
            return Step::Wrong("an archive with an unknown name");
        };
        let Some(at) = self.due.iter().position(|due| *due == archive) else {
            return Step::Wrong("an archive that was not listed, or twice");
        };
        self.due.swap_remove(at);
        self.place = Place::Archive;
        Step::Event(BackupEvent::Archive(archive))
    }
}

/// `base.tar` or `16400.tar`.
fn archive(name: &[u8]) -> Option<Option<u32>> {
    let stem = std::str::from_utf8(name).ok()?.strip_suffix(".tar")?;
    if stem == "base" {
        return Some(None);
    }
    let digits = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| stem.parse().ok()).flatten().map(Some)
}
