//! A server that sends what a test wrote down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;
use walferry_base::{BaseSource, SourceError, SourceEvent, SourceStart, SourceTablespace};
use walferry_layout::base::TarArchive;
use walferry_wal::{Lsn, TimelineId};

use crate::clouds::{SLICE, noise};

pub(crate) const TABLESPACE: TarArchive = TarArchive::Tablespace(16_400);
pub(crate) const MANIFEST: &[u8] = br#"{ "PostgreSQL-Backup-Manifest-Version": 1 }"#;

pub(crate) enum Step {
    Event(SourceEvent),
    Fail(&'static str),
    /// Waits until the test lets it through.
    Hold(Arc<Semaphore>),
    /// Does something between two messages.
    Call(Box<dyn FnOnce() + Send>),
}

pub(crate) struct Script {
    steps: VecDeque<Step>,
    tablespaces: Vec<SourceTablespace>,
}

impl Script {
    /// The data directory of five slices, the last one small, and two tablespaces, one empty.
    pub(crate) fn usual() -> Self {
        Self::sending(&plain(), 10_000)
    }

    /// These archives in portions of `portion` bytes.
    pub(crate) fn sending(archives: &BTreeMap<TarArchive, Vec<u8>>, portion: usize) -> Self {
        let mut script = Self::announcing(archives.keys().copied());
        // As PostgreSQL does: the data directory goes last.
        for (archive, plain) in archives.iter().rev() {
            script.event(SourceEvent::Archive(*archive));
            for portion in plain.chunks(portion) {
                script.event(SourceEvent::Data(Bytes::copy_from_slice(portion)));
            }
            script.event(SourceEvent::Progress(plain.len() as u64));
        }
        script.end();
        script
    }

    pub(crate) fn announcing(archives: impl Iterator<Item = TarArchive>) -> Self {
        Self {
            steps: VecDeque::new(),
            tablespaces: archives
                .map(|archive| SourceTablespace {
                    archive,
                    path: match archive {
                        TarArchive::Base => String::new(),
                        TarArchive::Tablespace(oid) => format!("/srv/space/{oid}"),
                    },
                    size: Some(1000),
                })
                .collect(),
        }
    }

    pub(crate) fn event(&mut self, event: SourceEvent) {
        self.steps.push_back(Step::Event(event));
    }

    pub(crate) fn end(&mut self) {
        self.event(SourceEvent::Manifest);
        for half in MANIFEST.chunks(MANIFEST.len() / 2 + 1) {
            self.event(SourceEvent::Data(Bytes::from_static(half)));
        }
        self.event(SourceEvent::End {
            lsn: Lsn::new(0x0300_0100),
            timeline: timeline(),
        });
    }

    /// Puts `step` before the message number `at`.
    pub(crate) fn with(mut self, at: usize, step: Step) -> Self {
        self.steps.insert(at, step);
        self
    }

    /// The same without its messages number `at` to the end.
    pub(crate) fn cut_at(mut self, at: usize) -> Self {
        self.steps.truncate(at);
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }
}

#[async_trait]
impl BaseSource for Script {
    fn start(&self) -> SourceStart {
        SourceStart {
            lsn: Lsn::new(0x0300_0028),
            timeline: timeline(),
        }
    }

    fn tablespaces(&self) -> Vec<SourceTablespace> {
        self.tablespaces.clone()
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            match self.steps.pop_front() {
                Some(Step::Event(event)) => return Ok(event),
                Some(Step::Fail(why)) => return Err(why.into()),
                Some(Step::Hold(gate)) => gate.acquire().await?.forget(),
                Some(Step::Call(call)) => call(),
                None => return Err("the script ends here".into()),
            }
        }
    }
}

/// What `Script::usual` sends.
pub(crate) fn plain() -> BTreeMap<TarArchive, Vec<u8>> {
    let rows = b"a row of a table ".repeat(3 * SLICE / 17);
    let base = [noise(SLICE, 1), rows, noise(500, 2)].concat();
    [
        (TarArchive::Base, base),
        (TABLESPACE, noise(2 * SLICE, 3)),
        (TarArchive::Tablespace(16_401), Vec::new()),
    ]
    .into()
}

fn timeline() -> TimelineId {
    TimelineId::new(1).expect("it is not 0")
}
