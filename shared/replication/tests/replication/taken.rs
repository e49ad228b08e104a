//! A base backup as files, restored far enough to be judged.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use walferry_replication::{BackupEvent, BaseBackupStream, ReplicationError};
use walferry_wal::{Lsn, TimelineId};

use crate::server::{Server, own, run};

/// The archives and the manifest of a backup, each as a file.
pub(crate) struct Taken {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) archives: Vec<Option<u32>>,
    pub(crate) bytes: u64,
    /// What the server reported last.
    pub(crate) progress: u64,
    pub(crate) stop: (Lsn, TimelineId),
}

impl Taken {
    /// Reads a backup to its end.
    pub(crate) async fn read(stream: &mut BaseBackupStream) -> Result<Self, ReplicationError> {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut archives, mut bytes, mut progress) = (Vec::new(), 0, 0);
        let mut file = None;
        let create = |path: PathBuf| std::fs::File::create_new(path).expect("a new file");
        let stop = loop {
            match stream.next().await? {
                BackupEvent::Archive(oid) => {
                    archives.push(oid);
                    file = Some(create(tar(folder.path(), oid)));
                }
                BackupEvent::Manifest => {
                    file = Some(create(folder.path().join("backup_manifest")));
                }
                BackupEvent::Data(data) => {
                    assert!(!data.is_empty() && data.len() <= 64 << 10);
                    bytes += data.len() as u64;
                    let file = file.as_mut().expect("an archive before its data");
                    file.write_all(&data).expect("written");
                }
                BackupEvent::Progress(done) => progress = done,
                BackupEvent::End {
                    stop_lsn,
                    stop_timeline,
                } => break (stop_lsn, stop_timeline),
            }
        };
        Ok(Self {
            folder,
            archives,
            bytes,
            progress,
            stop,
        })
    }

    /// Untars everything below a new folder's `data`, as PostgreSQL's user, and lets
    /// `pg_verifybackup` look at it.
    pub(crate) fn unpacked(&self, server: &Server) -> tempfile::TempDir {
        let target = tempfile::tempdir().expect("a folder");
        let data = target.path().join("data");
        untar(&tar(self.folder.path(), None), &data);
        for oid in self.archives.iter().flatten() {
            let space = target.path().join(format!("space-{oid}"));
            untar(&tar(self.folder.path(), Some(*oid)), &space);
            let link = data.join("pg_tblspc").join(oid.to_string());
            std::os::unix::fs::symlink(&space, link).expect("a link");
        }
        let manifest = self.folder.path().join("backup_manifest");
        std::fs::copy(manifest, data.join("backup_manifest")).expect("a copy");
        let mut owner = Command::new("chown");
        let reference = format!("--reference={}", server.data().display());
        run(owner.arg("-R").arg(reference).arg(target.path()));
        own(target.path());
        // Without WAL: that is in the archive.
        run(server.command("pg_verifybackup").arg("-n").arg(&data));
        target
    }
}

fn tar(folder: &Path, oid: Option<u32>) -> PathBuf {
    let name = oid.map_or_else(|| "base".to_owned(), |oid| oid.to_string());
    folder.join(format!("{name}.tar"))
}

fn untar(archive: &Path, target: &Path) {
    std::fs::create_dir(target).expect("a folder");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(target, mode).expect("chmod");
    run(Command::new("tar")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(target));
}
