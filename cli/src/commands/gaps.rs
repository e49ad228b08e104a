//! `walferry gaps`: what is missing between archived segments.

use std::process::ExitCode;

use anyhow::Context as _;
use walferry_catalog::{clusters, status};

use crate::{context::Context, output::table};

#[derive(clap::Args)]
#[command(after_help = "Example:\n  walferry gaps   # exits 1 when there is one")]
pub(crate) struct Args {
    /// Only this cluster
    #[arg(long)]
    cluster: Option<String>,
}

/// A run of segments that no restore can cross.
#[derive(serde::Serialize)]
struct Gap {
    cluster: String,
    timeline: u32,
    first: String,
    last: String,
    segments: u64,
    /// `never-seen` or `not-verified`.
    kind: &'static str,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let catalog = ctx.catalog()?;
    let mut conn = catalog.get().await?;
    let mut rows = clusters::clusters(&mut conn).await?;
    if let Some(name) = &args.cluster {
        rows.retain(|row| row.name == *name);
        rows.first()
            .with_context(|| format!("the catalog knows no cluster `{name}`"))?;
    }
    let mut gaps = Vec::new();
    for cluster in rows {
        for gap in status::gaps(&mut conn, &cluster.prefix).await? {
            gaps.push(Gap {
                cluster: cluster.name.clone(),
                timeline: gap.timeline.get(),
                first: gap.first.to_string(),
                last: gap.last.to_string(),
                segments: gap.segments,
                kind: match gap.kind {
                    status::GapKind::NeverSeen => "never-seen",
                    status::GapKind::NotVerified => "not-verified",
                },
            });
        }
    }
    ctx.output.show(&gaps, |gaps| {
        if gaps.is_empty() {
            return "no gaps".to_owned();
        }
        let rows: Vec<Vec<String>> = gaps
            .iter()
            .map(|gap| {
                vec![
                    gap.cluster.clone(),
                    gap.timeline.to_string(),
                    gap.first.clone(),
                    gap.last.clone(),
                    gap.segments.to_string(),
                    gap.kind.to_owned(),
                ]
            })
            .collect();
        table(
            &["cluster", "timeline", "first", "last", "segments", "kind"],
            &rows,
        )
    })?;
    // Segments on their way are no hole.
    let holes = gaps.iter().any(|gap| gap.kind != "not-verified");
    Ok(if holes {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
