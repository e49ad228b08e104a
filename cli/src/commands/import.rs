//! `walferry import`: adopts the objects that another system left in a prefix.

use std::{process::ExitCode, sync::Arc};

use anyhow::bail;
use walferry_archive::{
    import::{self, Import},
    pool::PackPool,
};
use walferry_catalog::{clusters, repositories};
use walferry_config::{Clusters, Repositories};
use walferry_proof::{ObjectKey, RepositoryName};
use walferry_store::Repository;

use crate::{context::Context, progress::Progress};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  walferry import --dry-run\n  walferry import\n\nEvery object of the prefix is read once; nothing is deleted or overwritten. Exits 1 when objects were left."
)]
pub(crate) struct Args {
    /// Read and tell, catalog nothing, set no mark
    #[arg(long)]
    dry_run: bool,
    /// The cluster [default: the only one]
    #[arg(long)]
    cluster: Option<String>,
}

#[derive(serde::Serialize)]
struct Shown {
    cluster: String,
    prefix: String,
    system_id: Option<String>,
    dry_run: bool,
    objects: u64,
    adopted: u64,
    left: Vec<Left>,
}

#[derive(serde::Serialize)]
struct Left {
    repository: String,
    key: String,
    reason: String,
}

impl import::Progress for Progress {
    fn read(&self, repository: &RepositoryName, key: &ObjectKey) {
        self.step(&format!("{repository} {key}"));
    }
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let (configured, stores) = ctx.get::<(Clusters, Repositories)>()?;
    let cluster = match &args.cluster {
        Some(name) => configured.get(name),
        None => configured.only(),
    };
    let Some(cluster) = cluster else {
        bail!("no such cluster is configured, or several are. HINT: say which with --cluster");
    };
    let repositories = stores
        .iter()
        .map(|repository| walferry_store::s3(&repository.s3))
        .collect::<Result<Vec<Arc<dyn Repository>>, _>>()?;
    let names: Vec<RepositoryName> = stores.iter().map(|store| store.name.clone()).collect();
    let catalog = ctx.catalog()?;
    let mut conn = catalog.get().await?;
    repositories::ensure_repositories(&mut conn, &names).await?;
    let row = clusters::ensure_cluster(&mut conn, &cluster.name, &cluster.prefix).await?;
    drop(conn);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = PackPool::start(threads)?;
    let progress = Progress::new("import", "objects read");
    let imported = Import {
        catalog: &catalog,
        pool: &pool,
        repositories: &repositories,
        required: &stores.required(),
        cluster: &row.name,
        prefix: &row.prefix,
        dry_run: args.dry_run,
    }
    .run(&progress)
    .await?;
    progress.finish();
    let shown = Shown {
        cluster: row.name,
        prefix: row.prefix.key_prefix.to_string(),
        system_id: imported.system_id.map(|id| id.to_string()),
        dry_run: args.dry_run,
        objects: imported.objects,
        adopted: imported.adopted,
        left: imported
            .left
            .into_iter()
            .map(|left| Left {
                repository: left.repository.to_string(),
                key: left.key,
                reason: left.reason,
            })
            .collect(),
    };
    ctx.output.show(&shown, text)?;
    Ok(if shown.left.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text(shown: &Shown) -> String {
    let mut text = format!(
        "{} objects read under {}, {} files {}\n",
        shown.objects,
        shown.prefix,
        shown.adopted,
        if shown.dry_run {
            "would be adopted"
        } else {
            "adopted"
        }
    );
    for left in &shown.left {
        text.push_str(&format!(
            "left {} in {}: {}\n",
            left.key, left.repository, left.reason
        ));
    }
    if shown.dry_run {
        text.push_str("nothing was changed. HINT: run it without --dry-run to adopt them\n");
    }
    text
}
