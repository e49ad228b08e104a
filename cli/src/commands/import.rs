//! `walferry import`: adopts the objects that another system left in a prefix.

use std::{collections::HashSet, process::ExitCode, sync::Arc};

use anyhow::bail;
use walferry_archive::import::{self, Import, Imported};
use walferry_catalog::{Catalog, Cluster, clusters, repositories};
use walferry_config::{Clusters, Repositories};
use walferry_pack::pool::PackPool;
use walferry_proof::{ObjectKey, RepositoryName};
use walferry_retain::Reconciled;
use walferry_store::Repository;
use walferry_wal::SystemId;

use super::retention::retention;
use crate::{context::Context, progress::Progress};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  walferry import --dry-run\n  walferry import\n\nEvery object of the prefix is read once; nothing is deleted or overwritten. Then the catalog's rows are compared with the buckets: a copy that is not there is due again. Exits 1 when objects were left or something still differs."
)]
pub(crate) struct Args {
    /// Read and tell, catalog nothing, set no mark
    #[arg(long)]
    dry_run: bool,
    /// The cluster [default: the only one]
    #[arg(long)]
    cluster: Option<String>,
    /// Which database system the cluster is, for a new catalog and a prefix that is marked
    /// already: `SELECT system_identifier FROM pg_control_system()`
    #[arg(long)]
    system_id: Option<SystemId>,
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
    compared: Vec<Compared>,
}

/// The catalog's rows beside what a repository holds.
#[derive(serde::Serialize)]
struct Compared {
    prefix: String,
    repository: String,
    /// Copies that are due again, as they are not there.
    due: u64,
    /// Files that are nowhere and older than the window.
    forgotten: u64,
    /// Files that are nowhere: holes in the archive.
    lost: Vec<String>,
    /// What still differs and keeps retention from acting.
    differences: Vec<String>,
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
        system_id: args.system_id,
        dry_run: args.dry_run,
    }
    .run(&progress)
    .await?;
    progress.finish();
    let compared = if args.dry_run {
        Vec::new()
    } else {
        reconcile(ctx, catalog, &row, &imported).await?
    };
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
                key: left.key.to_string(),
                reason: left.reason,
            })
            .collect(),
        compared: compared.into_iter().map(shown_comparison).collect(),
    };
    ctx.output.show(&shown, text)?;
    let agrees = |one: &Compared| one.lost.is_empty() && one.differences.is_empty();
    Ok(
        if shown.left.is_empty() && shown.compared.iter().all(agrees) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        },
    )
}

/// Lets retention act again: what was left is accepted, as a person is told of it here.
async fn reconcile(
    ctx: &Context,
    catalog: Catalog,
    cluster: &Cluster,
    imported: &Imported,
) -> anyhow::Result<Vec<Reconciled>> {
    let left: HashSet<(RepositoryName, ObjectKey)> = imported
        .left
        .iter()
        .map(|left| (left.repository.clone(), left.key.clone()))
        .collect();
    Ok(retention(ctx, catalog, None)?
        .reconcile(cluster, &left)
        .await?)
}

fn shown_comparison(one: Reconciled) -> Compared {
    Compared {
        prefix: one.prefix.to_string(),
        repository: one.repository.to_string(),
        due: one.repaired.due,
        forgotten: one.repaired.forgotten,
        lost: one.repaired.lost.iter().map(ToString::to_string).collect(),
        differences: one.differs.map_or_else(Vec::new, |found| {
            found.differences.iter().map(ToString::to_string).collect()
        }),
    }
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
    for one in &shown.compared {
        if one.due + one.forgotten > 0 {
            text.push_str(&format!(
                "{} of {}: {} copies are not there and due again, {} old files are forgotten\n",
                one.prefix, one.repository, one.due, one.forgotten
            ));
        }
        for file in &one.lost {
            text.push_str(&format!("LOST {file}: no repository has it any more\n"));
        }
        for difference in &one.differences {
            text.push_str(&format!(
                "DIFFERS in {}: {difference}; retention does not act\n",
                one.repository
            ));
        }
    }
    if shown.dry_run {
        text.push_str("nothing was changed. HINT: run it without --dry-run to adopt them\n");
    }
    text
}
