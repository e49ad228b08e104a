//! `walferry backups keep`: retention leaves a base and its WAL alone.

use std::process::ExitCode;

use anyhow::bail;
use chrono::{DateTime, Utc};
use walferry_archive::copied::chain;
use walferry_base::KeepError;
use walferry_catalog::{
    Catalog, CatalogError,
    bases::{self, Keep},
    clusters,
};
use walferry_config::{Cluster, Clusters, Repositories};
use walferry_layout::base::{BaseLabel, BaseObject, KeepMark, base_key};
use walferry_proof::KeyPrefix;

use super::super::backup::{one, reachable};
use crate::context::Context;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The base backup, as `walferry backups` names it
    label: BaseLabel,
    /// Until this time, with a zone, e.g. '2027-01-01 00:00:00+00' [default: for ever]
    #[arg(long, value_parser = time, conflicts_with = "off")]
    until: Option<DateTime<Utc>>,
    /// Take the mark away
    #[arg(long)]
    off: bool,
    /// The cluster [default: the only one]
    #[arg(long)]
    cluster: Option<String>,
}

#[derive(serde::Serialize)]
struct Shown {
    cluster: String,
    label: String,
    keep: bool,
    /// Null with `keep`: for ever.
    until: Option<DateTime<Utc>>,
    repositories: Vec<Marked>,
    /// Why the catalog does not know of it yet; null when it does.
    catalog_error: Option<String>,
}

#[derive(serde::Serialize)]
struct Marked {
    repository: String,
    /// `done`, `absent` (the base is not complete there) or `failed`.
    outcome: &'static str,
    error: Option<String>,
}

pub(super) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    if args.until.is_some_and(|until| until <= Utc::now()) {
        bail!("that time has passed. HINT: --off takes the mark away");
    }
    let (clusters, stores) = ctx.get::<(Clusters, Repositories)>()?;
    let cluster = one(&clusters, args.cluster.as_deref())?;
    let (catalog, unreachable) = reachable(ctx).await;
    let prefixes = prefixes(cluster, catalog.as_ref()).await?;
    let mark = (!args.off).then_some(KeepMark { until: args.until });
    let mut repositories = Vec::new();
    for repository in stores.iter() {
        let store = walferry_store::s3(&repository.s3)?;
        let mut marked = Marked {
            repository: repository.name.to_string(),
            outcome: "absent",
            error: None,
        };
        for prefix in &prefixes {
            // Taking a mark away asks nobody whether there is a base.
            let complete = base_key(prefix, args.label, &BaseObject::Complete);
            match store.head(&complete).await {
                Ok(Some(_)) => {}
                Ok(None) => continue,
                Err(error) => {
                    marked.outcome = "failed";
                    marked.error = Some(chain(&error));
                    break;
                }
            }
            match walferry_base::set_keep(&*store, prefix, args.label, mark.clone()).await {
                Ok(()) => marked.outcome = "done",
                Err(KeepError::NotComplete { .. }) => {}
                Err(error) => {
                    marked.outcome = "failed";
                    marked.error = Some(chain(&error));
                    break;
                }
            }
        }
        repositories.push(marked);
    }
    let marked = repositories.iter().any(|one| one.outcome == "done");
    let catalog_error = match &catalog {
        Some(catalog) if marked => note(catalog, cluster, &args).await.err(),
        _ => None,
    };
    let shown = Shown {
        cluster: cluster.name.clone(),
        label: args.label.to_string(),
        keep: !args.off,
        until: args.until,
        catalog_error: unreachable.or(catalog_error.map(|error| chain(&error))),
        repositories,
    };
    ctx.output.show(&shown, text)?;
    let failed = shown.repositories.iter().any(|one| one.outcome == "failed");
    Ok(if marked && !failed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A base may lie in a prefix from before an upgrade.
async fn prefixes(cluster: &Cluster, catalog: Option<&Catalog>) -> anyhow::Result<Vec<KeyPrefix>> {
    let Some(catalog) = catalog else {
        return Ok(vec![cluster.prefix.clone()]);
    };
    let mut conn = catalog.get().await?;
    let rows = clusters::clusters(&mut conn).await?;
    let Some(row) = rows.into_iter().find(|row| row.name == cluster.name) else {
        return Ok(vec![cluster.prefix.clone()]);
    };
    let known = clusters::prefixes(&mut conn, row.id).await?;
    Ok(known.into_iter().map(|prefix| prefix.key_prefix).collect())
}

/// A base without a row is found by the next `base-backup`, and its mark with it.
async fn note(catalog: &Catalog, cluster: &Cluster, args: &Args) -> Result<(), CatalogError> {
    let mut conn = catalog.get().await?;
    let rows = clusters::clusters(&mut conn).await?;
    let Some(row) = rows.into_iter().find(|row| row.name == cluster.name) else {
        return Ok(());
    };
    let keep = (!args.off).then_some(Keep { until: args.until });
    let label = args.label.to_string();
    for prefix in clusters::prefixes(&mut conn, row.id).await? {
        match bases::keep(&mut conn, prefix.id, &label, keep).await {
            Ok(()) | Err(CatalogError::Unknown { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_str(text, "%F %T%#z")
        .or_else(|_| DateTime::parse_from_rfc3339(text))
        .map(|time| time.to_utc())
        .map_err(|_| "write a time with its zone, as 2027-01-01 00:00:00+00".to_owned())
}

fn text(shown: &Shown) -> String {
    let mut text = String::new();
    for one in &shown.repositories {
        let said = match (one.outcome, shown.keep) {
            ("done", true) => match shown.until {
                Some(until) => format!("is kept until {}", until.format("%F %T+00")),
                None => "is kept for ever".to_owned(),
            },
            ("done", false) => "is kept no longer than retention says".to_owned(),
            ("absent", _) => "is not there".to_owned(),
            _ => format!("FAILED: {}", one.error.as_deref().unwrap_or_default()),
        };
        text.push_str(&format!("{} in {}: {said}\n", shown.label, one.repository));
    }
    if let Some(error) = &shown.catalog_error {
        text.push_str(&format!(
            "the catalog does not know of it yet: {error}; the buckets count\n"
        ));
    }
    text
}
