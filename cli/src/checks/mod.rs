//! What `walferry check` looks at: one file per neighbour.

mod archive;
mod bases;
pub(crate) mod catalog;
mod clouds;
mod directories;
mod queue;
mod server;

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    commands::check::{Finding, Level},
    context::Context,
};

/// The clusters whose server itself said that it hands over and that nothing is missing: where
/// nothing arrives there, nothing was written.
type Well = BTreeSet<String>;

/// Everything, each part within `patience`.
pub(crate) async fn all(ctx: &Context, patience: Duration) -> Vec<Finding> {
    let mut findings = vec![configuration(ctx)];
    let mut well = Well::default();
    let (catalog, queue, clouds, server) = tokio::join!(
        bounded(patience, "catalog", catalog::check(ctx)),
        bounded(patience, "queue", queue::check(ctx)),
        bounded(patience, "repositories", clouds::check(ctx)),
        bounded(patience, "server", server::check(ctx, &mut well)),
    );
    findings.extend(catalog);
    findings.extend(queue);
    findings.extend(clouds);
    findings.extend(
        bounded(
            patience,
            "directories",
            std::future::ready(directories::check(ctx)),
        )
        .await,
    );
    findings.extend(bounded(patience, "archive", archive::check(ctx, &well)).await);
    findings.extend(server);
    findings
}

fn configuration(ctx: &Context) -> Finding {
    match ctx.config.check() {
        Ok(()) => Finding::ok("configuration", "configuration", "every setting is valid"),
        Err(problems) => Finding::new(
            Level::Critical,
            "configuration",
            "configuration",
            problems.to_string(),
            Some("`walferry config check` shows every setting and where it came from"),
        ),
    }
}

/// So far two clocks may be apart before somebody should hear of it.
const CLOCKS_APART: TimeDelta = TimeDelta::seconds(60);

/// What to say when another machine's clock and ours differ; which one is wrong nobody knows.
fn clock_differs(theirs: DateTime<Utc>) -> Option<String> {
    let ours = Utc::now();
    let ahead = theirs.signed_duration_since(ours);
    (ahead.abs() > CLOCKS_APART).then(|| {
        format!(
            "its clock says {}, this machine's {}: {} s apart",
            theirs.format("%FT%TZ"),
            ours.format("%FT%TZ"),
            ahead.abs().num_seconds()
        )
    })
}

async fn bounded(
    patience: Duration,
    what: &'static str,
    check: impl Future<Output = anyhow::Result<Vec<Finding>>>,
) -> Vec<Finding> {
    match tokio::time::timeout(patience, check).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => vec![Finding::new(
            Level::Unknown,
            what,
            "unknown",
            format!("{error:#}"),
            None,
        )],
        Err(_) => vec![Finding::new(
            Level::Unknown,
            what,
            "unknown",
            format!("no answer within {} s", patience.as_secs()),
            None,
        )],
    }
}
