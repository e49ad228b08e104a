//! What nobody can do without: the same calls as `push` makes for the file itself, in this
//! process.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, RenameFlags, open, openat, renameat_with};

/// Opens `source`, makes a new file in `directory`, copies (the standard library's copy, as
/// push does, inside the kernel), fsyncs the file, renames it to `name` without replacing,
/// fsyncs the directory. How long that takes.
///
/// # Panics
/// When one of it fails.
pub(crate) fn copy(source: &Path, directory: &Path, name: &str) -> Duration {
    let began = Instant::now();
    copied(source, directory, name)
        .unwrap_or_else(|error| panic!("copy {}: {error}", source.display()));
    began.elapsed()
}

fn copied(source: &Path, directory: &Path, name: &str) -> io::Result<()> {
    let source = File::open(source)?;
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(directory, folder, Mode::empty())?;
    let temporary = format!(".bench.{name}");
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let target: File = openat(&directory, &temporary, new, Mode::from_raw_mode(0o600))?.into();
    io::copy(&mut &source, &mut &target)?;
    rustix::fs::fsync(&target)?;
    renameat_with(
        &directory,
        &temporary,
        &directory,
        name,
        RenameFlags::NOREPLACE,
    )?;
    rustix::fs::fsync(&directory)?;
    Ok(())
}
