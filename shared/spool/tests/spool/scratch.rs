//! Folders and files for one test.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use walferry_spool::{Directory, FileId, PushSettings, scan};
use walferry_wal::WalFile;

pub(crate) const SETTINGS: PushSettings = PushSettings {
    mode: 0o640,
    limit: None,
};

/// A folder with an archive directory, and what PostgreSQL would have beside it.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        open_to_all(folder.path());
        let scratch = Self { folder };
        std::fs::create_dir(scratch.archive()).expect("an archive directory");
        std::fs::create_dir(scratch.pg_wal()).expect("a pg_wal");
        scratch
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    pub(crate) fn pg_wal(&self) -> PathBuf {
        self.folder.path().join("pg_wal")
    }

    pub(crate) fn directory(&self) -> Directory {
        Directory::open(self.archive()).expect("the archive directory opens")
    }

    /// Copies a file made by PostgreSQL into `pg_wal`.
    pub(crate) fn source(&self, made: &Path) -> PathBuf {
        let path = self.pg_wal().join(made.file_name().expect("a name"));
        std::fs::copy(made, &path).expect("a copy");
        path
    }

    /// Writes a file into the archive directory as a foreign hand would.
    pub(crate) fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.archive().join(name);
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// Every name that lies in the archive directory, hidden ones too.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.archive())
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.archive().join(name)).expect("a stored file")
    }

    /// The file as a scan sees it.
    pub(crate) fn seen(&self, name: &str) -> (WalFile, FileId) {
        let file: WalFile = name.parse().expect("a WAL name");
        let entries = scan(&self.directory()).expect("a listing");
        let entry = entries.iter().find(|entry| entry.file == Ok(file));
        (file, entry.expect("it lies there").stat)
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into()
        })
        .collect();
    names.sort();
    names
}

pub(crate) fn open_to_all(folder: &Path) {
    set_mode(folder, 0o755);
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
}

pub(crate) fn mode(path: &Path) -> u32 {
    let metadata = std::fs::symlink_metadata(path).expect("metadata");
    metadata.permissions().mode() & 0o7777
}
