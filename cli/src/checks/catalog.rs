//! The catalog: is it there, is its schema ours, does it keep what it commits, and does it
//! stand anywhere but on a server that it protects?

use walferry_catalog::{clusters, server};
use walferry_config::CatalogSettings;

use crate::{
    commands::check::{Finding, Level},
    context::Context,
};

pub(super) async fn check(ctx: &Context) -> anyhow::Result<Vec<Finding>> {
    let settings = ctx.get::<CatalogSettings>()?;
    let catalog = ctx.catalog()?;
    let mut conn = match catalog.get().await {
        Ok(conn) => conn,
        Err(error) => {
            return Ok(vec![Finding::new(
                Level::Critical,
                "catalog",
                "catalog-down",
                format!("{:#}", anyhow::Error::new(error)),
                Some(
                    "files are kept in the archive directory until it is back; is DATABASE_URL right, and was `walferry catalog migrate` run?",
                ),
            )]);
        }
    };
    let mut findings = vec![Finding::ok(
        "catalog",
        "catalog",
        "answers, schema up to date",
    )];
    let durability = server::durability(&mut conn).await?;
    if !durability.fsync || !durability.full_page_writes {
        findings.push(Finding::new(
            Level::Critical,
            "catalog",
            "catalog-durability",
            "fsync or full_page_writes is off: a power loss makes it forget what is archived",
            Some("set both to on in the catalog's server"),
        ));
    }
    let own = server::system_id(&mut conn).await?;
    let protects = clusters::clusters(&mut conn)
        .await?
        .into_iter()
        .find(|cluster| cluster.prefix.system_id == Some(own));
    if let Some(cluster) = protects {
        findings.push(Finding::new(
            if settings.allow_same_server { Level::Warning } else { Level::Critical },
            "catalog",
            "catalog-on-protected-server",
            format!("it stands on the very server that it protects (cluster `{}`): losing one loses both, and cataloging makes WAL for ever", cluster.name),
            Some("move it to another PostgreSQL instance and set DATABASE_URL"),
        ));
    }
    Ok(findings)
}
