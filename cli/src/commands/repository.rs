//! `walferry repository`: what to do about a repository that left the configuration.

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use walferry_catalog::repositories;
use walferry_config::Repositories;
use walferry_proof::RepositoryName;

use crate::context::Context;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  walferry repository retire b2")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Wait no longer for the copies that are missing in a repository that is not configured
    /// any more; nothing is deleted there
    Retire {
        /// The repository's name
        name: RepositoryName,
    },
}

#[derive(serde::Serialize)]
struct Retired {
    repository: String,
    /// Files that waited for it alone and are VERIFIED now.
    files: u64,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let Command::Retire { name } = args.command;
    let configured = ctx.get::<Repositories>()?;
    if configured.iter().any(|repository| repository.name == name) {
        bail!(
            "`{name}` is configured, so the next segment would wait for it again. HINT: take it out of the configuration of every worker first, and restart them"
        );
    }
    let catalog = ctx.catalog()?;
    let mut conn = catalog.get().await?;
    let known = repositories::list(&mut conn).await?;
    if !known.iter().any(|repository| repository.name == name) {
        bail!("the catalog knows no repository `{name}`");
    }
    let retired = Retired {
        files: repositories::retire(&mut conn, &name).await?,
        repository: name.to_string(),
    };
    ctx.output.show(&retired, |retired| {
        format!(
            "{} files waited for {} alone and are verified now; copies that it has stay known",
            retired.files, retired.repository
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
