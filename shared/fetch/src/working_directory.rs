//! The data directory that PostgreSQL runs `restore_command` in.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use walferry_wal::SystemId;
use walferry_wal::control::{ControlError, ControlFile};

/// What the working directory says.
#[derive(Clone, Debug)]
pub struct WorkingDirectory {
    /// The system of the data directory that it is; `None` if it is none.
    pub system: Option<SystemId>,
}

/// It is a data directory, and whose cannot be found out.
#[derive(Debug, thiserror::Error)]
pub enum WorkingDirectoryError {
    #[error("cannot read `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` cannot be understood")]
    Control {
        path: PathBuf,
        #[source]
        source: ControlError,
    },
}

impl WorkingDirectory {
    /// Looks at `directory`.
    ///
    /// # Errors
    /// When `global/pg_control` is there and does not tell the system: then nothing can be
    /// compared with it, and nothing is certain.
    pub fn look(directory: &Path) -> Result<Self, WorkingDirectoryError> {
        let path = directory.join("global/pg_control");
        let mut head = Vec::new();
        let read = File::open(&path).and_then(|file| {
            let limit = ControlFile::SIZE as u64;
            file.take(limit).read_to_end(&mut head)
        });
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { system: None });
            }
            Err(source) => return Err(WorkingDirectoryError::Read { path, source }),
        }
        match ControlFile::parse(&head) {
            Ok(control) => Ok(Self {
                system: Some(control.system_id),
            }),
            Err(source) => Err(WorkingDirectoryError::Control { path, source }),
        }
    }
}
