//! A PostgreSQL server as a source of base backups.

use async_trait::async_trait;
use walferry_layout::base::TarArchive;
use walferry_replication::{BackupEvent, BaseBackupStream};

use crate::source::{BaseSource, SourceError, SourceEvent, SourceStart, SourceTablespace};

#[async_trait]
impl BaseSource for BaseBackupStream {
    fn start(&self) -> SourceStart {
        let start = BaseBackupStream::start(self);
        SourceStart {
            lsn: start.lsn,
            timeline: start.timeline,
        }
    }

    fn tablespaces(&self) -> Vec<SourceTablespace> {
        BaseBackupStream::tablespaces(self)
            .iter()
            .map(|found| SourceTablespace {
                archive: archive(found.oid),
                path: found.path.clone(),
                size: found.size_kib.map(|kib| kib.saturating_mul(1024)),
            })
            .collect()
    }

    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        Ok(match BaseBackupStream::next(self).await? {
            BackupEvent::Archive(oid) => SourceEvent::Archive(archive(oid)),
            BackupEvent::Data(bytes) => SourceEvent::Data(bytes),
            BackupEvent::Manifest => SourceEvent::Manifest,
            BackupEvent::Progress(bytes) => SourceEvent::Progress(bytes),
            BackupEvent::End {
                stop_lsn,
                stop_timeline,
            } => SourceEvent::End {
                lsn: stop_lsn,
                timeline: stop_timeline,
            },
        })
    }
}

fn archive(oid: Option<u32>) -> TarArchive {
    oid.map_or(TarArchive::Base, TarArchive::Tablespace)
}
