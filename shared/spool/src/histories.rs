//! History files that PostgreSQL itself would never hand over.
//!
//! Recovery across a promotion needs every `.history` up to the target timeline. PostgreSQL
//! archives one when it makes it; those from before archiving was switched on lie in
//! `pg_wal` for ever and are never archived.
//!
//! "Never seen" cannot be read off the directory, since workers delete what is archived. So
//! each one that was handed over leaves a note in `.walferry/handed-over/`, which holds the
//! SHA-256 of its content: another content under the same name (another system, a restored
//! clone) has not been seen, and is handed over to be judged by the archive.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use walferry_killpoint::kill_point;
use walferry_proof::sha256;
use walferry_wal::{FileKind, WalFile};

use crate::directory::Directory;
use crate::names;
use crate::push::{PushSettings, Source, store};
use crate::push_error::{PushError, io_error_from};

/// Folder of the notes, in the folder of ours.
const LEDGER: &str = "handed-over";

/// Stores every history file next to `source` that has not been seen, before `source` itself.
///
/// # Errors
/// As for any file: PostgreSQL then tries again. A segment is not acknowledged while a
/// history file that its recovery needs could not be stored.
pub(crate) fn hand_over(
    source: &Source,
    directory: &Directory,
    settings: &PushSettings,
) -> Result<(), PushError> {
    let folder = match source.path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let failed = |error| PushError::Source {
        path: folder.to_owned(),
        source: error,
    };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let history = |file: WalFile| file.kind() == FileKind::History && file != source.name;
        if !parse(&name).is_some_and(history) {
            continue;
        }
        let found = match Source::open(&entry.path()) {
            Ok(found) => found,
            // Removed by a recovery that cleans up: then it is not needed here either.
            Err(PushError::Source { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            Err(error) => return Err(error),
        };
        if !seen(&found, directory)? {
            // Whether it lay there already or was stored now, it is durable.
            let _ = store(&found, directory, settings)?;
            kill_point!("push-history.store.after");
            remember(&found, directory)?;
            kill_point!("push-history.note.after");
        }
    }
    Ok(())
}

/// Notes that a history file was handed over. Called when it is durable in the directory.
///
/// A crash right before leaves no note, and one in the middle a cut note: in both cases the
/// file is handed over once more, which the archive recognises as the same content. So the
/// note needs no fsync.
pub(crate) fn remember(source: &Source, directory: &Directory) -> Result<(), PushError> {
    let digest = sha256(&source.content()?).to_string();
    let write = || -> io::Result<()> {
        let ledger = directory.subfolder(names::OURS)?.subfolder(LEDGER)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = source.name.to_string();
        let note =
            match rustix::fs::openat(ledger.handle(), &name, flags, Mode::from_raw_mode(0o640)) {
                // Another user's note about another content: ours takes its place.
                Err(Errno::ACCESS | Errno::PERM) => {
                    ledger.unlink(OsStr::new(&name))?;
                    rustix::fs::openat(ledger.handle(), &name, flags, Mode::from_raw_mode(0o640))?
                }
                other => other?,
            };
        rustix::fs::fchmod(&note, Mode::from_raw_mode(0o640))?;
        kill_point!("push-history.note.before");
        File::from(note).write_all(digest.as_bytes())
    };
    write().map_err(|source| io_error_from("note a history file", directory, source))
}

fn seen(source: &Source, directory: &Directory) -> Result<bool, PushError> {
    let digest = sha256(&source.content()?).to_string();
    let name = OsString::from(source.name.to_string());
    let read = || -> io::Result<String> {
        let ledger = directory
            .open_subfolder(names::OURS)?
            .open_subfolder(LEDGER)?;
        let mut text = String::new();
        ledger
            .open_file(&name)?
            .take(128)
            .read_to_string(&mut text)?;
        Ok(text)
    };
    // A note that cannot be read is none: the file is handed over once more, nothing is lost.
    Ok(read().is_ok_and(|noted| noted == digest))
}

fn parse(name: &OsStr) -> Option<WalFile> {
    name.to_str()?.parse().ok()
}
