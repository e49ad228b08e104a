//! `walferry cluster`: a cluster's place in the buckets.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use walferry_catalog::clusters;
use walferry_config::Clusters;
use walferry_proof::KeyPrefix;

use crate::context::Context;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  walferry cluster upgrade --prefix wal-16/")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// After pg_upgrade: archive into the next prefix, and leave the old one restorable as it is
    Upgrade {
        /// The cluster [default: the only one]
        #[arg(long)]
        cluster: Option<String>,
        /// The next prefix, e.g. wal-16/
        #[arg(long)]
        prefix: KeyPrefix,
    },
}

#[derive(serde::Serialize)]
struct Upgraded {
    cluster: String,
    closed: String,
    open: String,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let Command::Upgrade { cluster, prefix } = args.command;
    let configured = ctx.get::<Clusters>()?;
    let name = match cluster.or_else(|| configured.only().map(|only| only.name.clone())) {
        Some(name) => name,
        None => bail!("several clusters are configured. HINT: say which with --cluster"),
    };
    let catalog = ctx.catalog()?;
    let mut conn = catalog.get().await?;
    let row = clusters::clusters(&mut conn)
        .await?
        .into_iter()
        .find(|row| row.name == name)
        .with_context(|| format!("the catalog knows no cluster `{name}`"))?;
    let open = clusters::open_next_prefix(&mut conn, row.id, &prefix).await?;
    let upgraded = Upgraded {
        cluster: name,
        closed: row.prefix.key_prefix.to_string(),
        open: open.key_prefix.to_string(),
    };
    ctx.output.show(&upgraded, |upgraded| {
        format!(
            "cluster {} archives into {} from now on; {} stays as it is",
            upgraded.cluster, upgraded.open, upgraded.closed
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
