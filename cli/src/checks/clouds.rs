//! The repositories, asked from here: does each accept our key, and whose prefix is it?

use walferry_archive::owner::{self, OwnerError};
use walferry_catalog::clusters;
use walferry_config::Repositories;
use walferry_store::Repository;

use crate::{
    commands::check::{Finding, Level},
    context::Context,
};

pub(super) async fn check(ctx: &Context) -> anyhow::Result<Vec<Finding>> {
    let repositories = ctx.get::<Repositories>()?;
    let clusters = match ctx.catalog()?.get().await {
        Ok(mut conn) => clusters::clusters(&mut conn).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let mut findings = Vec::new();
    for repository in repositories.iter() {
        let what = format!("repository {}", repository.name);
        let store = walferry_store::s3(&repository.s3)?;
        if let Err(error) = store.probe().await {
            findings.push(Finding::new(
                Level::Critical,
                what,
                error.cause(),
                error.report(),
                error.hint(),
            ));
            continue;
        }
        findings.push(Finding::ok(
            what.clone(),
            "repository",
            "bucket is there, key is accepted",
        ));
        for cluster in &clusters {
            findings.extend(mark(store.as_ref(), &what, cluster).await);
        }
    }
    Ok(findings)
}

async fn mark(
    store: &dyn Repository,
    what: &str,
    cluster: &walferry_catalog::Cluster,
) -> Option<Finding> {
    let prefix = &cluster.prefix.key_prefix;
    let ours = cluster.prefix.system_id?;
    let critical = |code, message: String, hint| {
        Some(Finding::new(
            Level::Critical,
            what,
            code,
            message,
            Some(hint),
        ))
    };
    match owner::read_mark(store, prefix).await {
        Ok(Some(mark)) if mark.system_id == ours => None,
        Ok(Some(mark)) => critical(
            "other-system",
            format!(
                "prefix `{prefix}` belongs to system {}, cluster `{}` is system {ours}",
                mark.system_id, cluster.name
            ),
            "after pg_upgrade run `walferry cluster upgrade`; otherwise give this cluster a prefix of its own",
        ),
        Ok(None) => match owner::holds_only_marks(store, prefix).await {
            Ok(true) => None,
            Ok(false) => critical(
                "not-imported",
                format!(
                    "prefix `{prefix}` holds objects but no owner mark; nothing is written there"
                ),
                "`walferry import --dry-run`, then `walferry import`",
            ),
            Err(error) => critical(
                "repository",
                format!("{:#}", anyhow::Error::new(error)),
                "see docs/operations.md",
            ),
        },
        Err(error @ OwnerError::Unreadable { .. }) => {
            critical("owner-mark", error.to_string(), "see docs/operations.md")
        }
        Err(error) => Some(Finding::new(
            Level::Unknown,
            what,
            "owner-mark",
            format!("{:#}", anyhow::Error::new(error)),
            None,
        )),
    }
}
