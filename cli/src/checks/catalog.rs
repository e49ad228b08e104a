//! The catalog: is it there, is its schema ours, does it keep what it commits, and does it
//! stand anywhere but on a server that it protects?

use walferry_catalog::{clusters, server};
use walferry_config::CatalogSettings;

use crate::{
    checks::clock_differs,
    commands::check::{Finding, Level},
    context::Context,
};

/// Also in `status`.
pub(crate) const READ_ONLY: &str = "it is read-only: nothing that is archived can be recorded";

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
    if !server::takes_writes(&mut conn).await? {
        findings.push(Finding::new(
            Level::Critical,
            "catalog",
            "catalog-read-only",
            READ_ONLY,
            Some(
                "files are kept in the archive directory until it takes writes; is it a standby, or is default_transaction_read_only on?",
            ),
        ));
    }
    if let Some(message) = clock_differs(server::now(&mut conn).await?) {
        findings.push(Finding::new(
            Level::Warning,
            "catalog",
            "catalog-clock",
            message,
            Some("set the clock that is wrong, for example with NTP; claims and back-offs go on by the catalog's own"),
        ));
    }
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
