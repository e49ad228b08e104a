//! What the repositories say when they are asked for a file.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use walferry_layout::object_key;
use walferry_proof::ObjectKey;
use walferry_store::{ObjectStream, ReadRepository, StoreError};
use walferry_wal::WalFile;

use crate::absence::NoSuchKey;
use crate::request::Archive;

const ONE_AFTER_THE_OTHER: usize = 1;

/// How long the first repository may take to answer before the next one is asked too. What
/// answers later is then not waited for, so a cloud that swallows packets costs this and not
/// its whole connect timeout for each segment.
const HEDGE: Duration = Duration::from_secs(2);

/// Who answered what.
pub(crate) type Opened = (
    Arc<dyn ReadRepository>,
    Result<Option<ObjectStream>, StoreError>,
);

/// The answers of all repositories, the first in order first unless it is slow.
pub(crate) struct Answers<'a> {
    key: ObjectKey,
    waiting: std::slice::Iter<'a, Arc<dyn ReadRepository>>,
    asked: FuturesUnordered<BoxFuture<'static, Opened>>,
}

impl<'a> Answers<'a> {
    pub(crate) fn new(archive: &'a Archive, file: &WalFile) -> Self {
        let mut answers = Self {
            key: object_key(&archive.prefix, file),
            waiting: archive.repositories.iter(),
            asked: FuturesUnordered::new(),
        };
        // What is not there has to be heard from everybody, and most history files are not; one
        // that is there costs a few hundred bytes.
        let at_once = match file {
            WalFile::History(_) | WalFile::Label { .. } => archive.repositories.len(),
            WalFile::Segment(_) | WalFile::Partial(_) => ONE_AFTER_THE_OTHER,
        };
        for _ in 0..at_once {
            answers.ask();
        }
        answers
    }

    fn ask(&mut self) {
        if let Some(repository) = self.waiting.next() {
            let (repository, key) = (Arc::clone(repository), self.key.clone());
            self.asked.push(Box::pin(async move {
                let answer = repository.get(&key).await;
                (repository, answer)
            }));
        }
    }

    /// The next answer; `None` when everybody has answered.
    pub(crate) async fn next(&mut self) -> Option<Opened> {
        loop {
            if self.asked.is_empty() {
                self.ask();
            }
            let more = self.waiting.len() > 0;
            tokio::select! {
                answer = self.asked.next() => {
                    return answer;
                }
                () = tokio::time::sleep(HEDGE), if more => self.ask(),
            }
        }
    }
}

impl NoSuchKey {
    pub(crate) fn of_answer(answer: &Result<Option<ObjectStream>, StoreError>) -> Option<Self> {
        answer.as_ref().ok().and_then(Self::of)
    }
}
