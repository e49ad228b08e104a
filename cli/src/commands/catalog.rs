//! `walferry catalog migrate`: brings the catalog's schema to this version.

use std::process::ExitCode;

use clap::Subcommand;

use crate::{context::Context, progress::Progress};

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  DATABASE_URL=postgres://walferry@catalog/walferry walferry catalog migrate"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Apply the migrations that are missing; safe while workers of the version before run
    Migrate {
        /// Only say which are missing; exits 1 when there are some
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(serde::Serialize)]
struct Migrated {
    applied: Vec<String>,
    pending: Vec<String>,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let Command::Migrate { dry_run } = args.command;
    let catalog = ctx.catalog()?;
    let migrated = if dry_run {
        Migrated {
            applied: Vec::new(),
            pending: catalog.pending().await?,
        }
    } else {
        let progress = Progress::new("catalog migrate", "migrations applied");
        // A schema that is newer than this program needs nothing, and is no failure here.
        let pending = catalog.pending().await.unwrap_or_default();
        if !pending.is_empty() {
            progress.at(0, &format!("applying {}", pending.join(", ")));
        }
        let migrated = Migrated {
            applied: catalog.migrate().await?,
            pending: Vec::new(),
        };
        if !migrated.applied.is_empty() {
            progress.at(migrated.applied.len() as u64, "done");
        }
        progress.finish();
        migrated
    };
    ctx.output.show(&migrated, |migrated| {
        let mut text = String::new();
        for name in &migrated.applied {
            text.push_str(&format!("applied {name}\n"));
        }
        for name in &migrated.pending {
            text.push_str(&format!("missing {name}\n"));
        }
        if text.is_empty() {
            text.push_str("the catalog's schema is up to date\n");
        }
        text
    })?;
    Ok(if migrated.pending.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
