//! `walferry quarantine`: files that were not archived because something is wrong with them,
//! or with what lies under their key in a cloud.

use std::{ffi::OsString, process::ExitCode};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::Subcommand;
use walferry_catalog::{server, status, suspects};
use walferry_config::{Archive, Clusters};
use walferry_spool::Directory;

use crate::{context::Context, output::table, standing};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  walferry quarantine ls\n  walferry quarantine move 0000000100000000000000A1"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List them, with the reason and what to do
    Ls,
    /// Put a file aside into the directory's subfolder `quarantine`; it is never deleted, and PostgreSQL can hand it over again
    Move {
        /// The file's name in the archive directory
        name: OsString,
        /// The archive directory [default: the configured one that has the file]
        #[arg(long)]
        dir: Option<std::path::PathBuf>,
    },
}

#[derive(serde::Serialize)]
struct Suspect {
    cluster: String,
    /// Where the file lies; null when it is an object.
    directory: Option<String>,
    /// Where the object lies; null when it is a file.
    repository: Option<String>,
    /// The file's name or the object's key.
    name: String,
    code: String,
    reason: String,
    /// False while it is "not yet": a writer may be at work.
    critical: bool,
    first_seen: DateTime<Utc>,
}

#[derive(serde::Serialize)]
struct Moved {
    name: String,
    to: String,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Ls => list(ctx).await,
        Command::Move { name, dir } => put_aside(ctx, &name, dir),
    }
}

async fn list(ctx: &Context) -> anyhow::Result<ExitCode> {
    let not_yet = ctx.get::<Archive>()?.not_yet;
    let catalog = ctx.catalog()?;
    let mut conn = catalog.get().await?;
    let now = server::now(&mut conn).await?;
    let mut found: Vec<Suspect> = suspects::list(&mut conn, None)
        .await?
        .into_iter()
        .map(|row| Suspect {
            critical: standing::is_critical(&row, now, not_yet),
            cluster: row.cluster,
            directory: Some(row.directory_path),
            repository: None,
            name: row.name,
            code: row.reason_code,
            reason: row.reason,
            first_seen: row.first_seen,
        })
        .collect();
    let conflicts = status::conflicts(&mut conn, None).await?;
    found.extend(conflicts.into_iter().map(|conflict| Suspect {
        cluster: conflict.cluster,
        directory: None,
        repository: Some(conflict.repository.to_string()),
        name: conflict.key,
        code: status::OTHER_CONTENT.to_owned(),
        reason: conflict.error,
        critical: true,
        first_seen: conflict.since,
    }));
    ctx.output.show(&found, |found| {
        if found.is_empty() {
            return "no suspicious files".to_owned();
        }
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|file| {
                vec![
                    file.name.clone(),
                    file.directory
                        .as_ref()
                        .or(file.repository.as_ref())
                        .cloned()
                        .unwrap_or_default(),
                    if file.critical {
                        "quarantined"
                    } else {
                        "not yet"
                    }
                    .to_owned(),
                    file.first_seen.format("%Y-%m-%d %H:%M:%SZ").to_string(),
                    file.reason.clone(),
                ]
            })
            .collect();
        table(&["file", "where", "state", "since", "reason"], &rows)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn put_aside(
    ctx: &Context,
    name: &OsString,
    dir: Option<std::path::PathBuf>,
) -> anyhow::Result<ExitCode> {
    let directories = match dir {
        Some(dir) => vec![dir],
        None => ctx
            .get::<Clusters>()?
            .iter()
            .flat_map(|cluster| cluster.directories.clone())
            .map(|directory| directory.path)
            .filter(|path| path.join(name).symlink_metadata().is_ok())
            .collect(),
    };
    let [path] = directories.as_slice() else {
        bail!(
            "`{}` lies in {} of the configured directories. HINT: say which with --dir",
            name.display(),
            directories.len()
        );
    };
    let directory = Directory::open(path)?;
    let to = walferry_spool::quarantine_move(&directory, name)
        .with_context(|| format!("put `{}` aside", name.display()))?;
    let moved = Moved {
        name: name.to_string_lossy().into_owned(),
        to: to.display().to_string(),
    };
    ctx.output.show(&moved, |moved| {
        format!("{} is now {}", moved.name, moved.to)
    })?;
    Ok(ExitCode::SUCCESS)
}
