//! What the server sends, into slices for all lanes.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use walferry_layout::base::{BaseObject, Slice, TarArchive};
use walferry_wal::{Lsn, TimelineId};

use crate::lane::Message;
use crate::outcome::TakeError;
use crate::packing::{self, ManifestPacker, PackedManifest, PackingError, units};
use crate::progress::Progress;
use crate::settings::TakeSettings;
use crate::slicer::{Cut, Slicer};
use crate::source::{BaseSource, SourceEvent};

const OPEN: &str = "the semaphore is never closed";

/// A base that was sent whole.
pub(crate) struct Whole {
    /// In the order of their archives and numbers.
    pub(crate) slices: Vec<Slice>,
    pub(crate) manifest: PackedManifest,
    pub(crate) stop_lsn: Lsn,
    pub(crate) stop_timeline: TimelineId,
}

/// Reads a source to its end. Dropped, it stops packing.
pub(crate) struct Reader<'t, S> {
    source: &'t mut S,
    settings: &'t TakeSettings,
    lanes: &'t [mpsc::UnboundedSender<Message>],
    progress: &'t watch::Sender<Progress>,
    /// In KiB: what slices may have together from their first byte until all lanes let go.
    memory: Arc<Semaphore>,
    packing: JoinSet<Result<Slice, PackingError>>,
    packed: Vec<Slice>,
    part: Part,
    seen: BTreeSet<TarArchive>,
    /// Every slice that was given away: what there is to remove if the base comes to nothing.
    cut: Vec<BaseObject>,
}

/// What the data belongs to.
enum Part {
    Nothing,
    Archive(Slicer, Option<OwnedSemaphorePermit>),
    Manifest(Box<ManifestPacker>),
}

impl<'t, S: BaseSource> Reader<'t, S> {
    pub(crate) fn new(
        source: &'t mut S,
        settings: &'t TakeSettings,
        lanes: &'t [mpsc::UnboundedSender<Message>],
        progress: &'t watch::Sender<Progress>,
    ) -> Self {
        let kib = settings.budget().div_ceil(1024);
        let kib = usize::try_from(kib).unwrap_or(usize::MAX);
        Self {
            source,
            settings,
            lanes,
            progress,
            memory: Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS))),
            packing: JoinSet::new(),
            packed: Vec::new(),
            part: Part::Nothing,
            seen: BTreeSet::new(),
            cut: Vec::new(),
        }
    }

    pub(crate) fn cut(self) -> Vec<BaseObject> {
        self.cut
    }

    /// Gives each slice to all lanes as soon as it is packed.
    pub(crate) async fn read(&mut self) -> Result<Whole, TakeError> {
        loop {
            match self.next().await? {
                SourceEvent::Archive(archive) => {
                    self.end_archive();
                    self.archive(archive)?;
                }
                SourceEvent::Data(bytes) => self.data(bytes).await?,
                SourceEvent::Manifest => {
                    self.end_archive();
                    let packer = ManifestPacker::new(self.settings.level)?;
                    self.part = Part::Manifest(Box::new(packer));
                }
                // Bytes are counted here.
                SourceEvent::Progress(_) => {}
                SourceEvent::End { lsn, timeline } => return self.end(lsn, timeline).await,
            }
        }
    }

    /// The next message; packing that fails ends the wait for it.
    async fn next(&mut self) -> Result<SourceEvent, TakeError> {
        let mut next = pin!(self.source.next());
        loop {
            tokio::select! {
                event = &mut next => return event.map_err(TakeError::Source),
                Some(packed) = self.packing.join_next() => self.packed.push(joined(packed)?),
            }
        }
    }

    fn archive(&mut self, archive: TarArchive) -> Result<(), TakeError> {
        let announced = self.source.tablespaces();
        if !announced.iter().any(|found| found.archive == archive) || !self.seen.insert(archive) {
            return Err(TakeError::Unexpected(format!("archive `{archive}`")));
        }
        let size = self.settings.slice_size.bytes();
        self.part = Part::Archive(Slicer::new(archive, size), None);
        Ok(())
    }

    async fn data(&mut self, mut bytes: Bytes) -> Result<(), TakeError> {
        match std::mem::replace(&mut self.part, Part::Nothing) {
            Part::Nothing => Err(TakeError::Unexpected("data of no archive".to_owned())),
            Part::Manifest(packer) => {
                let packer = packer.push(&self.settings.pool, &bytes).await?;
                self.part = Part::Manifest(Box::new(packer));
                Ok(())
            }
            Part::Archive(mut slicer, mut room) => {
                let size = bytes.len() as u64;
                let slice = units(self.settings.slice_size.bytes());
                self.progress.send_modify(|progress| progress.read += size);
                while !bytes.is_empty() {
                    if slicer.at_start() {
                        // Where all memory is taken the server waits here, until the slowest
                        // repository has let go of something or is dropped.
                        let memory = Arc::clone(&self.memory);
                        room = Some(memory.acquire_many_owned(slice).await.expect(OPEN));
                    }
                    if let Some(cut) = slicer.push(&mut bytes) {
                        self.pack(cut, room.take());
                    }
                }
                self.part = Part::Archive(slicer, room);
                Ok(())
            }
        }
    }

    fn end_archive(&mut self) {
        match std::mem::replace(&mut self.part, Part::Nothing) {
            Part::Archive(slicer, room) => {
                if let Some(cut) = slicer.finish() {
                    self.pack(cut, room);
                }
            }
            part => self.part = part,
        }
    }

    fn pack(&mut self, cut: Cut, room: Option<OwnedSemaphorePermit>) {
        self.cut.push(BaseObject::Slice(cut.archive, cut.number));
        self.progress.send_modify(|progress| progress.slices += 1);
        let (pool, level) = (self.settings.pool.clone(), self.settings.level);
        let lanes = self.lanes.to_vec();
        self.packing.spawn(async move {
            let packed = Arc::new(packing::pack(&pool, level, cut, room).await?);
            for lane in lanes {
                // The lane of a repository that was dropped has ended.
                let _ = lane.send(Message::Slice(Arc::clone(&packed)));
            }
            Ok(packed.slice.clone())
        });
    }

    async fn end(&mut self, stop_lsn: Lsn, stop_timeline: TimelineId) -> Result<Whole, TakeError> {
        self.end_archive();
        let Part::Manifest(manifest) = std::mem::replace(&mut self.part, Part::Nothing) else {
            return Err(TakeError::Missing("`backup_manifest`".to_owned()));
        };
        for announced in self.source.tablespaces() {
            if !self.seen.contains(&announced.archive) {
                return Err(TakeError::Missing(format!("`{}`", announced.archive)));
            }
        }
        let manifest = manifest.finish(&self.settings.pool).await?;
        while let Some(packed) = self.packing.join_next().await {
            self.packed.push(joined(packed)?);
        }
        let mut slices = std::mem::take(&mut self.packed);
        slices.sort_by_key(|slice| (slice.archive, slice.number));
        Ok(Whole {
            slices,
            manifest,
            stop_lsn,
            stop_timeline,
        })
    }
}

fn joined(
    packed: Result<Result<Slice, PackingError>, tokio::task::JoinError>,
) -> Result<Slice, TakeError> {
    match packed {
        Ok(packed) => Ok(packed?),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(TakeError::Source(error.into())),
        },
    }
}
