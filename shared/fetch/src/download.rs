//! One copy of a file: from the repository into a temporary file, checked.

use std::ffi::OsStr;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use walferry_killpoint::kill_point;
use walferry_layout::object_key;
use walferry_proof::{KeyPrefix, ObjectKey, RepositoryName};
use walferry_store::{ObjectStream, StoreError};
use walferry_wal::{SystemId, WalFile};

use crate::check::{self, Compared, Mismatch};
use crate::place::PlaceError;
use crate::problem::Problem;
use crate::temporary::{Place, Temporary};
use crate::unpack::{Unpacked, Unpacker, UnpackerError};

/// Chunks of a stream that wait to be unpacked: a few hundred KiB, whatever the segment's size.
const WAITING: usize = 16;

/// A file that is what its name says; it still has a temporary name.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) temporary: Temporary,
    pub(crate) compared: Compared,
    pub(crate) crc32c: u32,
}

/// What is downloaded, and whose it has to be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) file: WalFile,
    pub(crate) system: SystemId,
}

/// Where a download lies meanwhile.
#[derive(Clone, Copy)]
pub(crate) enum Into<'a> {
    /// Under any temporary name.
    Any(&'a Place),
    /// Under one that others look for.
    Named(&'a Place, &'a OsStr),
}

enum Piece {
    Bytes(Bytes),
    /// The stream ended as it should; without it the sender died.
    End,
}

/// Reads `stream` to its end and checks what it holds.
///
/// Memory is bounded by a few chunks of the stream. A crash leaves a temporary file, which a
/// later fetch unlinks.
pub(crate) async fn download(
    wanted: &Wanted,
    prefix: &KeyPrefix,
    repository: &RepositoryName,
    stream: ObjectStream,
    into: Into<'_>,
) -> Result<Checked, Problem> {
    let key = object_key(prefix, &wanted.file);
    let damaged = |source: Mismatch| damaged(repository, &key, source);
    let told = check::told(&stream.facts.metadata).map_err(damaged)?;
    let largest = check::largest(&wanted.file);
    if let Some(told) = told.as_ref().filter(|told| told.size > largest) {
        return Err(damaged(Mismatch::Size {
            expected: largest,
            found: told.size,
        }));
    }
    let limit = told.as_ref().map_or(largest, |told| told.size);
    let (Into::Any(place) | Into::Named(place, _)) = into;
    let failed = |source| PlaceError::Temporary {
        directory: place.path().to_owned(),
        source,
    };
    let temporary = match into {
        Into::Any(place) => Temporary::create(place),
        Into::Named(place, name) => Temporary::create_named(place, name),
    };
    let temporary = temporary.map_err(failed)?;
    kill_point!("fetch.create.after");
    let file = temporary.handle().try_clone().map_err(failed)?;
    let unpacker = Unpacker::new(file, check::head_size(&wanted.file), limit);
    let unpacked = match unpack(unpacker, stream).await {
        Ok(unpacked) => unpacked,
        Err(Unfinished::Store(error)) => return Err(Problem::Store(error)),
        Err(Unfinished::Unpack(UnpackerError::Damaged(source))) => {
            return Err(damaged(Mismatch::Unpack(source)));
        }
        Err(Unfinished::Unpack(UnpackerError::Write(source))) => return Err(failed(source).into()),
    };
    let told = told.as_ref();
    let compared = check::compare(&wanted.file, wanted.system, told, &unpacked).map_err(damaged)?;
    Ok(Checked {
        temporary,
        compared,
        crc32c: unpacked.crc32c,
    })
}

enum Unfinished {
    Store(StoreError),
    Unpack(UnpackerError),
}

/// Unpacking has a thread of its own, so that the next chunk is on its way meanwhile.
async fn unpack(mut unpacker: Unpacker, mut stream: ObjectStream) -> Result<Unpacked, Unfinished> {
    let (sender, mut pieces) = mpsc::channel(WAITING);
    let thread = tokio::task::spawn_blocking(move || {
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Bytes(bytes) => unpacker.feed(&bytes)?,
                Piece::End => return unpacker.finish().map(Some),
            }
        }
        Ok(None)
    });
    let mut broken = None;
    while let Some(chunk) = stream.body.next().await {
        match chunk {
            Ok(bytes) => {
                kill_point!("fetch.chunk.after");
                // The thread has found damage and is gone: it says so below.
                if sender.send(Piece::Bytes(bytes)).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    if broken.is_none() {
        // As above.
        let _ = sender.send(Piece::End).await;
    }
    drop(sender);
    // A panic ends the process: see the command's guard. Cancelled it cannot be.
    let finished = thread.await.expect("the unpacking thread does not panic");
    match (finished, broken) {
        (Err(error), _) => Err(Unfinished::Unpack(error)),
        (Ok(_), Some(error)) => Err(Unfinished::Store(error)),
        (Ok(Some(unpacked)), None) => Ok(unpacked),
        (Ok(None), None) => unreachable!("the end was sent, or the thread had failed"),
    }
}

fn damaged(repository: &RepositoryName, key: &ObjectKey, source: Mismatch) -> Problem {
    Problem::Damaged {
        repository: repository.clone(),
        key: key.clone(),
        source,
    }
}
