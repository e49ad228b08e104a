//! `walferry push`: PostgreSQL's `archive_command`.
//!
//! No runtime, no connection, nothing but the directory: it has to work, within milliseconds,
//! while Redis, the catalog and both clouds are down. Its exit code is 0, 1, 2 (usage) or 101
//! (a panic): above 125 PostgreSQL's archiver process would end.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use walferry_config::{ArchiveDirectory, Config, Sources, Spool, SpoolLimit};
use walferry_spool::{Directory, Limit, PushSettings, Pushed};

/// What PostgreSQL passes, and what may be set besides.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, in postgresql.conf:\n  archive_mode = on\n  archive_command = 'walferry push %p'\n  archive_timeout = 60\n\n\
Nothing is overwritten. 0: stored durably, or the same content was there already. 1: PostgreSQL keeps the file and tries again."
)]
pub(crate) struct PushArgs {
    /// The file to hand over: %p in archive_command
    #[arg(value_name = "FILE")]
    source: PathBuf,
    /// The archive directory [default: WAL_ARCHIVE_DIR, then the configured one, then /var/lib/postgresql/wal_archive]
    #[arg(long, value_name = "PATH")]
    directory: Option<PathBuf>,
    /// Mode of the stored file, whatever the umask [default: 0640, setting spool.file_mode]
    #[arg(long, value_name = "OCTAL")]
    mode: Option<String>,
    /// Refuse when the directory would hold more: 50GiB [setting spool.limit]
    #[arg(long, value_name = "SIZE", conflicts_with = "limit_share")]
    limit_bytes: Option<String>,
    /// Refuse when the file system would be fuller: 95% [default: 95%, setting spool.limit]
    #[arg(long, value_name = "SHARE")]
    limit_share: Option<String>,
}

/// Stores the file and tells how it went; `file`, `set` and `json` are the global flags.
pub(crate) fn run(args: PushArgs, file: Option<PathBuf>, set: &[String], json: bool) -> ExitCode {
    let name = args.source.display().to_string();
    let outcome = push(args, file, set);
    if json {
        let outcome = match &outcome {
            Ok(Pushed::Stored) => serde_json::json!({ "file": name, "outcome": "stored" }),
            Ok(Pushed::AlreadyThere) => {
                serde_json::json!({ "file": name, "outcome": "already-there" })
            }
            Err(error) => {
                serde_json::json!({ "file": name, "outcome": "refused", "error": sentence(error.as_ref()) })
            }
        };
        println!("{outcome}");
    }
    match outcome {
        Ok(Pushed::Stored | Pushed::AlreadyThere) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: it goes to the server's log.
            eprintln!("walferry push: {}", sentence(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn push(args: PushArgs, file: Option<PathBuf>, set: &[String]) -> anyhow::Result<Pushed> {
    let config = load(&args, file, set)?;
    let (path, spool) = match args.directory {
        Some(path) if path != Path::new("") => (path, config.get_tolerant::<Spool>()?),
        _ => {
            let push = config.push().context("find the archive directory")?;
            (only(push.directories)?, push.spool)
        }
    };
    let settings = PushSettings {
        mode: spool.file_mode,
        limit: spool.limit.map(|limit| match limit {
            SpoolLimit::Bytes(bytes) => Limit::Bytes(bytes),
            SpoolLimit::Share(share) => Limit::Share(share.get()),
        }),
    };
    let directory = Directory::open(path)?;
    Ok(walferry_spool::push(&args.source, &directory, &settings)?)
}

/// Flags, environment, file. A default file that PostgreSQL's user cannot read, because it
/// holds the worker's secrets, must not stop the archiving: it is told and left out.
fn load(args: &PushArgs, file: Option<PathBuf>, set: &[String]) -> anyhow::Result<Config> {
    let sources = Sources::of_process()
        .file(file)
        .flag("spool.file_mode", "--mode", args.mode.as_ref())
        .flag("spool.limit", "--limit-bytes", args.limit_bytes.as_ref())
        .flag("spool.limit", "--limit-share", args.limit_share.as_ref())
        .set(set)?;
    let (config, left_out) = Config::load_tolerant(sources)?;
    if let Some(problems) = left_out {
        eprintln!("walferry push: the configuration file is left out: {problems}");
    }
    Ok(config)
}

/// The archive directory, if there is no doubt which one is meant.
fn only(directories: Vec<ArchiveDirectory>) -> anyhow::Result<PathBuf> {
    match <[ArchiveDirectory; 1]>::try_from(directories) {
        Ok([directory]) => Ok(directory.path),
        Err(_) => Err(anyhow!(
            "several archive directories are configured. HINT: say which is this server's, \
             `walferry push --directory PATH %p`, or set WAL_ARCHIVE_DIR for PostgreSQL"
        )),
    }
}

/// The error and its causes, and what to do about it at the end.
pub(super) fn sentence(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut hint) = (String::new(), String::new());
    let mut next = Some(error);
    while let Some(error) = next {
        let message = error.to_string();
        let (message, told) = message
            .split_once(". HINT: ")
            .unwrap_or((message.as_str(), ""));
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(message);
        if hint.is_empty() && !told.is_empty() {
            hint = format!(". HINT: {told}");
        }
        next = error.source();
    }
    text + &hint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_stands_after_the_causes() {
        let cause = std::io::Error::other("no space left on device");
        let error = anyhow::Error::new(cause).context("no room. HINT: make room");
        assert_eq!(
            sentence(error.as_ref()),
            "no room: no space left on device. HINT: make room"
        );
    }
}
