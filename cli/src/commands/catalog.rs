//! `walferry catalog migrate`: brings the catalog's schema to this version.

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

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
        Migrated {
            applied: catalog.migrate().await?,
            pending: Vec::new(),
        }
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
