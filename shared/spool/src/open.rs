//! Reading a spooled file, and knowing that it did not change meanwhile.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use walferry_wal::WalFile;

use crate::directory::Directory;
use crate::stat::{FileId, file_type};
use crate::suspicion::Suspicion;

/// Largest file that `read_whole` takes; larger ones are streamed.
pub const MAX_WHOLE: u64 = 64 << 20;

/// An open file of the directory, as it was when it was opened.
#[derive(Debug)]
pub struct SpooledFile {
    file: WalFile,
    id: FileId,
    handle: File,
}

/// The file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Deleted or renamed since it was seen.
    #[error("`{file}` is not in the directory any more")]
    Gone { file: WalFile },
    #[error("`{file}` is not archived: {suspicion}. HINT: {}", suspicion.hint())]
    Suspicious { file: WalFile, suspicion: Suspicion },
    #[error("open `{file}`")]
    Io {
        file: WalFile,
        #[source]
        source: io::Error,
    },
}

/// The file cannot be read as one consistent content.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Somebody writes to it: look again later.
    #[error("`{file}` changed while it was read")]
    Changed { file: WalFile },
    #[error("`{file}` has {size} bytes, more than are read in one piece")]
    TooLarge { file: WalFile, size: u64 },
    #[error("read `{file}`")]
    Io {
        file: WalFile,
        #[source]
        source: io::Error,
    },
}

/// Streaming ended early.
#[derive(Debug, thiserror::Error)]
pub enum StreamError<E> {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What the consumer of the pieces returned.
    #[error("the reader of the pieces stopped")]
    Stopped(E),
}

/// Opens `file` for reading, if it is a regular file.
///
/// # Errors
/// Links, pipes, devices and folders are suspicious, and so is a file that may not be read.
pub fn open_checked(directory: &Directory, file: &WalFile) -> Result<SpooledFile, OpenError> {
    let name = OsString::from(file.to_string());
    let suspicious = |suspicion| OpenError::Suspicious {
        file: *file,
        suspicion,
    };
    let failed = |source: io::Error| OpenError::Io {
        file: *file,
        source,
    };
    let handle = match directory.open_file(&name) {
        Ok(handle) => handle,
        Err(Errno::NOENT) => return Err(OpenError::Gone { file: *file }),
        Err(Errno::LOOP) => return Err(suspicious(Suspicion::Symlink)),
        // A socket, or a device without a driver.
        Err(Errno::NXIO | Errno::NODEV) => return Err(suspicious(Suspicion::NotRegular)),
        Err(Errno::ACCESS | Errno::PERM) => {
            let Some(stat) = directory.stat(&name).map_err(failed)? else {
                return Err(OpenError::Gone { file: *file });
            };
            let id = FileId::of(&stat);
            return Err(suspicious(Suspicion::Unreadable {
                owner: id.uid,
                mode: id.mode,
            }));
        }
        Err(error) => return Err(failed(error.into())),
    };
    let stat = fstat(&handle).map_err(|error| failed(error.into()))?;
    if file_type(&stat) != FileType::RegularFile {
        return Err(suspicious(Suspicion::NotRegular));
    }
    Ok(SpooledFile {
        file: *file,
        id: FileId::of(&stat),
        handle,
    })
}

impl SpooledFile {
    #[must_use]
    pub fn file(&self) -> &WalFile {
        &self.file
    }

    /// As it was when it was opened.
    #[must_use]
    pub fn id(&self) -> &FileId {
        &self.id
    }

    /// Reads all of it into `buffer`, which is cleared first and keeps its capacity.
    ///
    /// # Errors
    /// When it is larger than [`MAX_WHOLE`], or changed since it was opened: then the buffer
    /// holds nothing worth keeping.
    pub fn read_whole(&self, buffer: &mut Vec<u8>) -> Result<(), ReadError> {
        if self.id.size > MAX_WHOLE {
            return Err(ReadError::TooLarge {
                file: self.file,
                size: self.id.size,
            });
        }
        let size = usize::try_from(self.id.size).map_err(|_| ReadError::TooLarge {
            file: self.file,
            size: self.id.size,
        })?;
        buffer.clear();
        buffer.reserve(size);
        (&self.handle)
            .seek(SeekFrom::Start(0))
            .and_then(|_| (&self.handle).take(self.id.size).read_to_end(buffer))
            .map_err(|source| self.failed(source))?;
        if buffer.len() != size {
            return Err(ReadError::Changed { file: self.file });
        }
        self.unchanged()
    }

    /// Hands all of it to `each`, piece by piece in order, through `buffer`.
    ///
    /// Whatever `each` did with the pieces counts only if this returns `Ok`.
    ///
    /// # Errors
    /// When the file changed since it was opened, or `each` returned an error.
    pub fn stream<E>(
        &self,
        buffer: &mut [u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), StreamError<E>> {
        (&self.handle)
            .seek(SeekFrom::Start(0))
            .map_err(|source| self.failed(source))?;
        let mut left = self.id.size;
        while left > 0 {
            let want = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let got = match (&self.handle).read(&mut buffer[..want]) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.failed(source).into()),
            };
            if got == 0 {
                return Err(ReadError::Changed { file: self.file }.into());
            }
            each(&buffer[..got]).map_err(StreamError::Stopped)?;
            left -= got as u64;
        }
        Ok(self.unchanged()?)
    }

    /// Whether the open file is still as it was when it was opened.
    ///
    /// # Errors
    /// [`ReadError::Changed`] when size or time of the last write differ.
    pub fn unchanged(&self) -> Result<(), ReadError> {
        let now = fstat(&self.handle).map_err(|error| self.failed(error.into()))?;
        if FileId::of(&now).unchanged(&self.id) {
            Ok(())
        } else {
            Err(ReadError::Changed { file: self.file })
        }
    }

    /// `buffer.len()` bytes from `offset` on, fewer at the end of the file. Moves no position.
    ///
    /// For readers that stop between pieces; what they made counts only if [`Self::unchanged`]
    /// holds afterwards.
    ///
    /// # Errors
    /// The file system's.
    pub fn piece<'a>(&self, offset: u64, buffer: &'a mut [u8]) -> Result<&'a [u8], ReadError> {
        let mut have = 0;
        while have < buffer.len() {
            match self
                .handle
                .read_at(&mut buffer[have..], offset + have as u64)
            {
                Ok(0) => break,
                Ok(got) => have += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        Ok(&buffer[..have])
    }

    fn failed(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            file: self.file,
            source,
        }
    }
}
