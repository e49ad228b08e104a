//! `walferry retention`: what would be deleted and why; deleting; stopping all deletion.

use std::{num::NonZeroUsize, process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use walferry_catalog::{Catalog, Cluster, clusters, holds};
use walferry_config::{Repositories, Retention as Settings};
use walferry_retain::{Consent, Outcome, Plan, Policy, PrefixReport, Report, Retention, Skipped};
use walferry_store::Repository;

use crate::{context::Context, output::table, progress::Progress};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  walferry retention plan\n  walferry retention apply --dry-run\n  walferry retention hold --reason 'restoring, ticket 42'\n  walferry retention release"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Only this cluster
    #[arg(long, global = true)]
    cluster: Option<String>,
    /// So many of the newest base backups stay in each repository [default: retention.min_bases]
    #[arg(long, global = true, value_name = "COUNT")]
    min_bases: Option<NonZeroUsize>,
}

#[derive(Subcommand)]
enum Command {
    /// Every deletion with its reason, and what is kept because of what; changes nothing
    Plan,
    /// Delete what the plan says, by exact key, all versions
    Apply {
        /// The same as `plan`
        #[arg(long)]
        dry_run: bool,
        /// A person has looked at the plan: allow more than retention.max_delete_share
        #[arg(long)]
        yes: bool,
    },
    /// Stop all deletion until `release`
    Hold {
        /// Why; shown to whoever wonders
        #[arg(long)]
        reason: String,
    },
    /// End a hold
    Release {
        /// The hold's number [default: all of the cluster, or all that are on every cluster]
        id: Option<i64>,
    },
}

#[derive(serde::Serialize)]
struct Shown {
    cluster: String,
    /// `plan`, `done`, `refused` or `stopped`.
    outcome: &'static str,
    prefixes: Vec<Prefix>,
    refusals: Vec<String>,
    skipped: Vec<Skipped>,
    deleted_objects: u64,
    deleted_bases: Vec<DeletedBase>,
    due_again: u64,
    window_proven: bool,
}

#[derive(serde::Serialize)]
struct DeletedBase {
    label: String,
    repository: String,
}

#[derive(serde::Serialize)]
struct Prefix {
    prefix: String,
    cutoff: chrono::DateTime<chrono::Utc>,
    share: f64,
    bases: Vec<BaseDeletion>,
    deletions: Vec<Deletion>,
    kept: Vec<Kept>,
    warnings: Vec<String>,
}

#[derive(serde::Serialize)]
struct BaseDeletion {
    label: String,
    repositories: Vec<String>,
    reason: String,
}

#[derive(serde::Serialize)]
struct Deletion {
    file: String,
    key: String,
    repositories: Vec<String>,
    reason: String,
}

#[derive(serde::Serialize)]
struct Kept {
    files: u64,
    first: String,
    last: String,
    repositories: Vec<String>,
    because: String,
}

#[derive(serde::Serialize)]
struct Held {
    holds: Vec<i64>,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let catalog = ctx.catalog()?;
    let rows = wanted(&catalog, args.cluster.as_deref()).await?;
    match args.command {
        Command::Plan | Command::Apply { dry_run: true, .. } => {
            plan(ctx, retention(ctx, catalog, args.min_bases)?, &rows).await
        }
        Command::Apply { yes, .. } => {
            let consent = if yes {
                Consent::Yes
            } else {
                Consent::Automatic
            };
            apply(
                ctx,
                retention(ctx, catalog, args.min_bases)?,
                &rows,
                consent,
            )
            .await
        }
        Command::Hold { reason } => {
            let mut conn = catalog.get().await?;
            let scope = args
                .cluster
                .as_ref()
                .and_then(|_| rows.first())
                .map(|row| row.id);
            let hold = holds::hold(&mut conn, scope, &reason, &who()).await?;
            ctx.output.show(
                &Held {
                    holds: vec![hold.get()],
                },
                |held| {
                    format!(
                        "hold {} is set: nothing is deleted until `walferry retention release`",
                        held.holds[0]
                    )
                },
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Release { id } => {
            let mut conn = catalog.get().await?;
            let which = match id {
                Some(id) => {
                    let scope = args
                        .cluster
                        .as_ref()
                        .and_then(|_| rows.first())
                        .map(|row| row.id);
                    let hold = holds::active(&mut conn, scope)
                        .await?
                        .into_iter()
                        .find(|hold| hold.id.get() == id)
                        .with_context(|| format!("there is no active hold {id}"))?;
                    holds::Release::One(hold.id)
                }
                None => holds::Release::Of(
                    args.cluster
                        .as_ref()
                        .and_then(|_| rows.first())
                        .map(|row| row.id),
                ),
            };
            let released = holds::release(&mut conn, which, &who()).await?;
            if released.is_empty() {
                bail!(
                    "there is no such hold. HINT: `walferry retention plan` names those that are set"
                );
            }
            let held = Held {
                holds: released.iter().map(|hold| hold.get()).collect(),
            };
            ctx.output
                .show(&held, |held| format!("released {} holds", held.holds.len()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn plan(ctx: &Context, retention: Retention, rows: &[Cluster]) -> anyhow::Result<ExitCode> {
    let mut shown = Vec::new();
    for cluster in rows {
        let preview = retention.preview(cluster).await?;
        shown.push(Shown {
            cluster: preview.cluster.clone(),
            outcome: "plan",
            window_proven: preview.window_proven(),
            prefixes: preview.prefixes.iter().map(prefix).collect(),
            refusals: preview.refusals.iter().map(ToString::to_string).collect(),
            skipped: preview.skipped,
            deleted_objects: 0,
            deleted_bases: Vec::new(),
            due_again: 0,
        });
    }
    ctx.output
        .show(&shown, |shown| shown.iter().map(text).collect())?;
    Ok(ExitCode::SUCCESS)
}

async fn apply(
    ctx: &Context,
    retention: Retention,
    rows: &[Cluster],
    consent: Consent,
) -> anyhow::Result<ExitCode> {
    let progress = Arc::new(Progress::new("retention apply", "objects deleted"));
    let told = Arc::clone(&progress);
    let retention = retention.with_progress(move |cluster, deleted| told.at(deleted, cluster));
    let mut shown = Vec::new();
    for cluster in rows {
        let report = retention.apply(cluster, consent).await?;
        let (outcome, refusals) = match &report.outcome {
            Outcome::Done => ("done", Vec::new()),
            Outcome::Refused(refusals) => (
                "refused",
                refusals.iter().map(ToString::to_string).collect(),
            ),
            Outcome::Stopped => ("stopped", Vec::new()),
        };
        shown.push(Shown {
            cluster: report.cluster.clone(),
            outcome,
            refusals,
            window_proven: report.window_proven(),
            deleted_objects: report.deleted(),
            deleted_bases: deleted_bases(&report),
            due_again: report.due_again(),
            prefixes: report.prefixes.iter().map(prefix).collect(),
            skipped: report.skipped,
        });
    }
    drop(retention);
    if let Some(progress) = Arc::into_inner(progress) {
        progress.finish();
    }
    let done = shown
        .iter()
        .all(|shown| shown.outcome == "done" && shown.due_again == 0);
    ctx.output
        .show(&shown, |shown| shown.iter().map(text).collect())?;
    Ok(if done {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Retention as it is configured.
pub(super) fn retention(
    ctx: &Context,
    catalog: Catalog,
    min_bases: Option<NonZeroUsize>,
) -> anyhow::Result<Retention> {
    let (repositories, settings) = ctx.get::<(Repositories, Settings)>()?;
    let stores = repositories
        .iter()
        .map(|repository| walferry_store::s3(&repository.s3))
        .collect::<Result<Vec<Arc<dyn Repository>>, _>>()?;
    Ok(Retention::new(
        catalog,
        stores,
        Policy {
            window: settings.window(),
            min_bases: min_bases.map_or(settings.min_bases, NonZeroUsize::get),
            max_delete_share: settings.max_delete_share.get(),
            max_clock_difference: settings.max_clock_difference,
        },
    ))
}

async fn wanted(catalog: &Catalog, name: Option<&str>) -> anyhow::Result<Vec<Cluster>> {
    let mut conn = catalog.get().await?;
    let mut rows = clusters::clusters(&mut conn).await?;
    if let Some(name) = name {
        rows.retain(|row| row.name == name);
        rows.first()
            .with_context(|| format!("the catalog knows no cluster `{name}`"))?;
    }
    Ok(rows)
}

/// Whoever sits at the terminal, for the hold's row.
fn who() -> String {
    let user = rustix::process::getuid();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid: u32 = fields.nth(1)?.parse().ok()?;
            (uid == user.as_raw()).then(|| name.to_owned())
        })
        .unwrap_or_else(|| format!("uid {}", user.as_raw()))
}

fn deleted_bases(report: &Report) -> Vec<DeletedBase> {
    let repositories = report.repositories.iter();
    repositories
        .flat_map(|one| {
            one.bases.iter().map(|label| DeletedBase {
                label: label.clone(),
                repository: one.repository.to_string(),
            })
        })
        .collect()
}

fn prefix(report: &PrefixReport) -> Prefix {
    let plan: &Plan = &report.plan;
    let names = |set| plan.names(set).map(ToString::to_string).collect();
    Prefix {
        prefix: report.prefix.to_string(),
        cutoff: plan.cutoff,
        share: plan.share,
        bases: plan
            .bases
            .iter()
            .map(|base| BaseDeletion {
                label: base.label.clone(),
                repositories: names(base.copies),
                reason: base.to_string(),
            })
            .collect(),
        deletions: plan
            .deletions
            .iter()
            .map(|deletion| Deletion {
                file: deletion.file.to_string(),
                key: deletion.key.to_string(),
                repositories: names(deletion.copies),
                reason: deletion.reason.to_string(),
            })
            .collect(),
        kept: plan
            .kept
            .iter()
            .map(|kept| Kept {
                files: kept.files,
                first: kept.first.to_string(),
                last: kept.last.to_string(),
                repositories: names(kept.copies),
                because: kept.because.to_string(),
            })
            .collect(),
        warnings: plan.warnings.iter().map(ToString::to_string).collect(),
    }
}

fn text(shown: &Shown) -> String {
    let mut text = format!("cluster {}: {}\n", shown.cluster, shown.outcome);
    for prefix in &shown.prefixes {
        text.push_str(&format!(
            "prefix {}, files older than {}: {} to delete ({:.1} % of the copies)\n",
            prefix.prefix,
            prefix.cutoff.format("%Y-%m-%d %H:%M:%SZ"),
            prefix.deletions.len(),
            prefix.share * 100.0
        ));
        for base in &prefix.bases {
            text.push_str(&format!(
                "  delete base backup {} from {}: {}\n",
                base.label,
                base.repositories.join(","),
                base.reason
            ));
        }
        let deletions: Vec<Vec<String>> = prefix
            .deletions
            .iter()
            .map(|deletion| {
                vec![
                    format!("  delete {}", deletion.key),
                    deletion.repositories.join(","),
                    deletion.reason.clone(),
                ]
            })
            .collect();
        if !deletions.is_empty() {
            text.push_str(&table(&["  object", "from", "because"], &deletions));
        }
        for kept in &prefix.kept {
            text.push_str(&format!(
                "  keep {} files {} .. {} in {}: {}\n",
                kept.files,
                kept.first,
                kept.last,
                kept.repositories.join(","),
                kept.because
            ));
        }
        for warning in &prefix.warnings {
            text.push_str(&format!("  WARNING {warning}\n"));
        }
    }
    for refusal in &shown.refusals {
        text.push_str(&format!("REFUSED {refusal}\n"));
    }
    for skipped in &shown.skipped {
        text.push_str(&format!(
            "SKIPPED {}: {:?}\n",
            skipped.repository, skipped.why
        ));
    }
    for base in &shown.deleted_bases {
        text.push_str(&format!(
            "base backup {} deleted from {}\n",
            base.label, base.repository
        ));
    }
    if shown.outcome != "plan" {
        text.push_str(&format!(
            "{} objects deleted, {} due again\n",
            shown.deleted_objects, shown.due_again
        ));
    }
    text
}
