//! `walferry status`: where the archive stands, at a glance.

use std::{process::ExitCode, time::Duration};

use super::workers::{self, Worker};
use crate::{
    checks::catalog::READ_ONLY,
    context::Context,
    output::{bytes, duration, table},
    standing::{self, Expected, Standing},
};
use anyhow::Context as _;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use walferry_catalog::{
    Cluster, Connection, clusters,
    protected::{Rpo, Server},
    server,
    status::reach,
};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  walferry status\n  walferry status --watch\n  walferry status --json"
)]
pub(crate) struct Args {
    /// Keep it on the screen, renewed every two seconds
    #[arg(long)]
    watch: bool,
    /// Only this cluster
    #[arg(long)]
    cluster: Option<String>,
}

#[derive(serde::Serialize)]
struct Status {
    at: DateTime<Utc>,
    clusters: Vec<Standing>,
    /// Null when Redis does not answer.
    workers: Option<Vec<Worker>>,
    queue_ready: Option<u64>,
    queue_dead: Option<u64>,
    /// What could not be read; everything it concerns is unknown.
    unknown: Vec<String>,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    loop {
        let status = read(ctx, args.cluster.as_deref()).await?;
        let known = status.unknown.is_empty();
        if args.watch && ctx.output.watched() {
            // Home and clear: the terminal keeps its scroll-back.
            print!("\x1b[H\x1b[2J");
        }
        ctx.output.show(&status, text)?;
        if ctx.output.closed() {
            return Ok(ExitCode::SUCCESS);
        }
        if !args.watch {
            return Ok(if known {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

async fn read(ctx: &Context, wanted: Option<&str>) -> anyhow::Result<Status> {
    let expected = Expected::of(ctx)?;
    let mut status = Status {
        at: Utc::now(),
        clusters: Vec::new(),
        workers: None,
        queue_ready: None,
        queue_dead: None,
        unknown: Vec::new(),
    };
    let catalog = ctx.catalog()?;
    let outcome: anyhow::Result<()> = async {
        let mut conn = catalog.get().await?;
        if !server::takes_writes(&mut conn).await? {
            status.unknown.push(format!("catalog: {READ_ONLY}"));
        }
        let mut rows = clusters::clusters(&mut conn).await?;
        if let Some(name) = wanted {
            rows.retain(|row| row.name == name);
            rows.first()
                .with_context(|| format!("the catalog knows no cluster `{name}`"))?;
        }
        for row in &rows {
            let mut standing = standing::read(&mut conn, row, &expected).await?;
            if let Some(url) = expected.connections.get(&row.name) {
                match rpo(&mut conn, row, url).await {
                    Ok(rpo) => standing.rpo_seconds = rpo.map(|rpo| rpo.as_secs()),
                    Err(error) => status
                        .unknown
                        .push(format!("server of {}: {error:#}", row.name)),
                }
            }
            status.clusters.push(standing);
        }
        for cluster in expected.clusters.iter() {
            let known = rows.iter().any(|row| row.name == cluster.name);
            if !known && wanted.is_none() {
                status.unknown.push(format!(
                    "cluster {}: no worker has ever reported it. HINT: start `walferry-worker`",
                    cluster.name
                ));
            }
        }
        Ok(())
    }
    .await;
    if let Err(error) = outcome {
        status.unknown.push(format!("catalog: {error:#}"));
    }
    match workers::living(ctx, None).await {
        Ok(living) => status.workers = Some(living),
        Err(error) => status.unknown.push(format!("redis: {error:#}")),
    }
    if let Ok(depth) = depth(ctx).await {
        status.queue_ready = Some(depth.ready);
        status.queue_dead = Some(depth.dead);
        status.unknown.extend(depth.aside.iter().map(|key| {
            format!("redis: a key of the queue held something else; it is `{key}` now. HINT: delete it when it is needed no more")
        }));
        // It answers; whether it also keeps what it is told is another question.
        if let Err(error) = ctx.queue(None)?.takes_writes().await {
            status.unknown.push(format!("redis: {error}"));
        }
    }
    Ok(status)
}

/// Waiting jobs, dead letters and keys that were put aside, of all queues.
#[derive(Default)]
struct Depth {
    ready: u64,
    dead: u64,
    aside: Vec<String>,
}

async fn depth(ctx: &Context) -> anyhow::Result<Depth> {
    let mut depth = Depth::default();
    for queue in ctx.queues()? {
        let stats = queue.stats().await?;
        depth.ready += stats.ready + stats.delayed;
        depth.dead += stats.dead;
        depth.aside.extend(stats.aside);
    }
    Ok(depth)
}

/// What the server that is protected says of it; `None` while nothing can be said.
async fn rpo(
    conn: &mut Connection,
    cluster: &Cluster,
    url: &SecretString,
) -> anyhow::Result<Option<Duration>> {
    let server = Server::new(url, "walferry-status")?.ask().await?;
    let reach = reach(conn, &cluster.prefix).await?;
    match server.rpo(&cluster.prefix, &reach) {
        Rpo::Age(age) => Ok(Some(age)),
        Rpo::NothingVerified => Ok(None),
        Rpo::OtherSystem(known) => anyhow::bail!(
            "it is system {}, the archive is of system {known}. HINT: after pg_upgrade run `walferry cluster upgrade`",
            server.system_id
        ),
    }
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    for cluster in &status.clusters {
        text.push_str(&one(cluster, status.at));
        text.push('\n');
    }
    let workers = match &status.workers {
        Some(workers) => workers.len().to_string(),
        None => "unknown".to_owned(),
    };
    let number = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    text.push_str(&format!(
        "workers {workers}, jobs waiting {}, dead letters {}\n",
        number(status.queue_ready),
        number(status.queue_dead)
    ));
    for unknown in &status.unknown {
        text.push_str(&format!("UNKNOWN {unknown}\n"));
    }
    text
}

fn one(cluster: &Standing, at: DateTime<Utc>) -> String {
    let mut text = format!(
        "cluster {}  prefix {}  system {}\n",
        cluster.cluster,
        cluster.prefix,
        cluster.system_id.as_deref().unwrap_or("not known yet")
    );
    let rpo = cluster.rpo_seconds.map_or_else(
        || "unknown (it takes the cluster's `connection` and a verified segment)".to_owned(),
        |seconds| duration(Duration::from_secs(seconds)),
    );
    let eta = cluster.eta_seconds.map_or_else(
        || "unknown: nothing was archived in the last 10 min".to_owned(),
        |seconds| duration(Duration::from_secs(seconds)),
    );
    text.push_str(&format!(
        "  backlog {} files, {}, ETA {eta}\n  RPO now {rpo}\n  verified {} files, {} as {}\n",
        cluster.backlog_files,
        bytes(cluster.backlog_bytes),
        cluster.verified,
        bytes(cluster.verified_bytes),
        bytes(cluster.stored_bytes),
    ));
    let reach: Vec<Vec<String>> = cluster
        .reach
        .iter()
        .map(|reach| {
            vec![
                format!("  {}", reach.timeline),
                reach.repository.clone(),
                reach.last.clone().unwrap_or_else(|| "-".to_owned()),
                reach
                    .last_closed_at
                    .map_or_else(|| "-".to_owned(), |closed| ago(at, closed)),
                reach.segments.to_string(),
            ]
        })
        .collect();
    if !reach.is_empty() {
        text.push_str(&table(
            &[
                "  timeline",
                "repository",
                "contiguous up to",
                "closed",
                "segments",
            ],
            &reach,
        ));
    }
    let repositories: Vec<Vec<String>> = cluster
        .repositories
        .iter()
        .map(|repository| {
            vec![
                format!("  {}", repository.repository),
                repository.breaker.clone(),
                repository.due.to_string(),
                repository
                    .behind_since
                    .map_or_else(|| "-".to_owned(), |since| ago(at, since)),
                repository.cause.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    text.push_str(&table(
        &["  repository", "breaker", "behind by", "since", "cause"],
        &repositories,
    ));
    for directory in &cluster.directories {
        let used = directory.used.map_or_else(
            || "unknown".to_owned(),
            |used| format!("{:.0} %", used * 100.0),
        );
        let number = |n: Option<String>| n.unwrap_or_else(|| "unknown".to_owned());
        let full = directory.full_in_seconds.map_or(String::new(), |seconds| {
            format!(", full in about {}", duration(Duration::from_secs(seconds)))
        });
        text.push_str(&format!(
            "  directory {}: {} files, {}, file system {used} used{full}\n",
            directory.path,
            number(directory.files.map(|files| files.to_string())),
            number(directory.bytes.map(bytes)),
        ));
        if let Some(error) = &directory.scan_error {
            text.push_str(&format!("  NOT SCANNED {}: {error}\n", directory.path));
        }
    }
    if let Some(retention) = &cluster.retention {
        let outcome = retention.outcome.as_deref().unwrap_or("not finished");
        text.push_str(&format!(
            "  retention {}: {outcome}\n",
            ago(at, retention.at)
        ));
        if retention.window_proven == Some(false) {
            text.push_str(
                "  WINDOW NOT PROVEN: no base backup from before it is known with its WAL complete\n",
            );
        }
    }
    for suspect in cluster.suspects.iter().take(standing::NAMED) {
        let word = if suspect.critical {
            "QUARANTINED"
        } else {
            "not yet"
        };
        text.push_str(&format!("  {word} {}: {}\n", suspect.name, suspect.reason));
    }
    let more = cluster.suspects.len().saturating_sub(standing::NAMED);
    if more > 0 {
        text.push_str(&format!(
            "  {more} more files are not archived: `walferry quarantine ls` names all\n"
        ));
    }
    for failure in &cluster.failures {
        text.push_str(&format!(
            "  FAILED {} files, {} {}: {}\n",
            failure.files,
            failure.repository.as_deref().unwrap_or("-"),
            failure.cause,
            failure.example
        ));
    }
    for file in &cluster.troubled {
        text.push_str(&format!("  TROUBLED {file}\n"));
    }
    text
}

fn ago(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    (now - then)
        .to_std()
        .map_or_else(|_| "now".to_owned(), |age| format!("{} ago", duration(age)))
}
