//! `walferry backup`: takes a base backup here and now.

use std::{num::NonZeroU64, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use walferry_backup::{Backup, LibpqMay, Outcome, Report};
use walferry_base::{Progress, RepositoryState, SliceSize, TakeSettings};
use walferry_catalog::{Catalog, protected::Server};
use walferry_config::{Backup as Settings, Cluster, Clusters, Connections, Repositories};
use walferry_pack::pool::PackPool;
use walferry_replication::ServerSettings;

use crate::{
    context::Context,
    output::{bytes, duration},
    transfer::Transfer,
};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  walferry backup\n  PGHOST=/var/run/postgresql walferry backup --spread --max-rate 50MiB\n\nStreams the cluster once from its server into every repository; nothing is stored locally. Interrupted with Ctrl-C it leaves nothing behind. Exits 1 when no repository has a new base backup, or not each of them."
)]
pub(crate) struct Args {
    /// The cluster [default: the only one]
    #[arg(long)]
    cluster: Option<String>,
    /// Begin with a checkpoint at once [default: backup.fast_checkpoint]
    #[arg(long, conflicts_with = "spread")]
    fast: bool,
    /// Spread the first checkpoint: minutes later, and easier on the server
    #[arg(long)]
    spread: bool,
    /// Bytes per second that the server reads at most, e.g. 50MiB [default: backup.max_rate]
    #[arg(long, value_parser = walferry_config::parse_rate)]
    max_rate: Option<MaxRate>,
}

/// `None` is no limit.
type MaxRate = Option<NonZeroU64>;

#[derive(serde::Serialize)]
struct Shown {
    /// `taken` or `busy`.
    outcome: &'static str,
    cluster: String,
    /// Who takes one already.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_by: Option<String>,
    #[serde(flatten)]
    taken: Option<Taken>,
    /// Why it was not written down there; null when it was.
    catalog_error: Option<String>,
}

#[derive(serde::Serialize)]
struct Taken {
    label: String,
    started_at: DateTime<Utc>,
    stopped_at: DateTime<Utc>,
    seconds: u64,
    size: u64,
    stored_size: u64,
    start_lsn: String,
    stop_lsn: String,
    timeline: u32,
    from_standby: bool,
    complete_in: Vec<String>,
    dropped: Vec<Dropped>,
    /// Timelines whose history was archived, as a repository lacked it.
    histories: Vec<u32>,
    /// Earlier bases that are complete in one more repository now.
    copied: Vec<Place>,
    /// Earlier bases that a repository still lacks.
    not_copied: Vec<Failed>,
    /// Remains of interrupted ones that were removed.
    cleaned: Vec<Place>,
}

#[derive(serde::Serialize)]
struct Dropped {
    repository: String,
    reason: String,
}

#[derive(serde::Serialize)]
struct Failed {
    label: String,
    repository: String,
    reason: String,
}

#[derive(serde::Serialize)]
struct Place {
    label: String,
    repository: String,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let (clusters, connections, stores, settings) =
        ctx.get::<(Clusters, Connections, Repositories, Settings)>()?;
    let cluster = one(&clusters, args.cluster.as_deref())?;
    let server = server(&clusters, &connections, cluster)?;
    let repositories = stores
        .iter()
        .map(|repository| walferry_store::s3(&repository.s3))
        .collect::<Result<Vec<_>, _>>()?;
    let (catalog, catalog_error) = reachable(ctx).await;
    if let Some(error) = &catalog_error {
        eprintln!(
            "walferry: the base backup goes on without the catalog, which the next one brings up to date: {error}"
        );
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let backup = Backup {
        cluster: cluster.name.clone(),
        prefix: cluster.prefix.clone(),
        server: server.with_stall(settings.server_stall),
        clock: connections
            .replication(&cluster.name)
            .and_then(|url| Server::new(url, "walferry").ok()),
        repositories,
        required: stores.required(),
        catalog,
        by: format!("walferry backup ({})", std::process::id()),
        take: TakeSettings {
            slice_size: SliceSize::try_from(settings.slice_size)?,
            level: settings.level,
            stall: settings.stall,
            ..TakeSettings::new(PackPool::start(threads)?)
        },
        max_rate: args.max_rate.unwrap_or(settings.max_rate),
        fast_checkpoint: args.fast || (settings.fast_checkpoint && !args.spread),
    };
    let outcome = watched(&backup).await?;
    let shown = match outcome {
        Outcome::Taken(report) => Shown {
            outcome: "taken",
            cluster: cluster.name.clone(),
            held_by: None,
            taken: Some(taken(*report)),
            catalog_error,
        },
        Outcome::Busy { by } => Shown {
            outcome: "busy",
            cluster: cluster.name.clone(),
            held_by: Some(by),
            taken: None,
            catalog_error,
        },
    };
    ctx.output.show(&shown, text)?;
    let everywhere = shown.taken.as_ref().is_some_and(|it| it.dropped.is_empty());
    Ok(if everywhere {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The cluster that is meant.
pub(super) fn one<'a>(clusters: &'a Clusters, name: Option<&str>) -> anyhow::Result<&'a Cluster> {
    match name {
        Some(name) => clusters
            .get(name)
            .with_context(|| format!("cluster `{name}` is not configured")),
        None => clusters
            .only()
            .context("several clusters are configured. HINT: say which with --cluster"),
    }
}

/// The catalog, or why there is none to be had.
pub(super) async fn reachable(ctx: &Context) -> (Option<Catalog>, Option<String>) {
    let tried = async {
        let catalog = ctx.catalog()?;
        drop(catalog.get().await?);
        anyhow::Ok(catalog)
    };
    match tried.await {
        Ok(catalog) => (Some(catalog), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    }
}

/// Here libpq's own variables count, and its defaults: whoever types this sits beside it.
fn server(
    clusters: &Clusters,
    connections: &Connections,
    cluster: &Cluster,
) -> anyhow::Result<ServerSettings> {
    let url = connections.replication(&cluster.name);
    let libpq = connections.libpq();
    let may = if clusters.only().is_some() || libpq.names_server() {
        LibpqMay::NameTheServer
    } else {
        LibpqMay::FillIn
    };
    let server = walferry_backup::server(url, libpq.variables(), may)
        .with_context(|| format!("read clusters.{}.replication", cluster.name))?;
    match server {
        Some(server) => Ok(server),
        None => bail!(
            "no server is configured for cluster `{0}`. HINT: set clusters.{0}.replication, or PGHOST",
            cluster.name
        ),
    }
}

/// Shows how far it is, and stops it at Ctrl-C or SIGTERM.
async fn watched(backup: &Backup) -> anyhow::Result<Outcome> {
    let stop = CancellationToken::new();
    let progress = watch::Sender::new(Progress::default());
    let mut seen = progress.subscribe();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("listen for SIGTERM")?;
    let mut shown = Transfer::new("base backup");
    let running = backup.run(&progress, &stop);
    tokio::pin!(running);
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let outcome = loop {
        tokio::select! {
            outcome = &mut running => break outcome,
            _ = tokio::signal::ctrl_c(), if !stop.is_cancelled() => stop.cancel(),
            _ = terminate.recv(), if !stop.is_cancelled() => stop.cancel(),
            _ = tick.tick() => {
                let now = seen.borrow_and_update().clone();
                shown.at(now.read, now.estimated, &note(&now, stop.is_cancelled()));
            }
        }
    };
    shown.finish();
    Ok(outcome?)
}

fn note(progress: &Progress, stopping: bool) -> String {
    if stopping {
        return "stopping; what was stored is removed".to_owned();
    }
    if progress.repositories.is_empty() {
        return "asking the server, completing earlier ones".to_owned();
    }
    if progress.read == 0 {
        return "the server makes a checkpoint".to_owned();
    }
    let each = progress.repositories.iter().map(|one| match one.state {
        RepositoryState::UnderWay => format!("{} {}", one.name, bytes(one.stored)),
        RepositoryState::Complete => format!("{} complete", one.name),
        RepositoryState::Dropped => format!("{} DROPPED", one.name),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn taken(report: Report) -> Taken {
    let base = &report.base;
    let took = base.stopped_at - base.started_at;
    let place = |label: String, repository: String| Place { label, repository };
    let completed = &report.completed;
    Taken {
        label: base.label.to_string(),
        started_at: base.started_at,
        stopped_at: base.stopped_at,
        seconds: u64::try_from(took.num_seconds()).unwrap_or(0),
        size: base.size(),
        stored_size: base.stored_size(),
        start_lsn: base.start_lsn.to_string(),
        stop_lsn: base.stop_lsn.to_string(),
        timeline: base.start_timeline.get(),
        from_standby: base.from_standby,
        complete_in: report.complete_in.iter().map(ToString::to_string).collect(),
        dropped: report
            .dropped
            .iter()
            .map(|(repository, reason)| Dropped {
                repository: repository.to_string(),
                reason: reason.clone(),
            })
            .collect(),
        histories: report
            .histories
            .iter()
            .map(|timeline| timeline.get())
            .collect(),
        copied: completed
            .copied
            .iter()
            .map(|(label, to)| place(label.to_string(), to.to_string()))
            .collect(),
        not_copied: completed
            .failed
            .iter()
            .map(|(label, to, reason)| Failed {
                label: label.to_string(),
                repository: to.to_string(),
                reason: reason.clone(),
            })
            .collect(),
        cleaned: completed
            .cleaned
            .iter()
            .map(|(from, one)| place(one.label.to_string(), from.to_string()))
            .collect(),
    }
}

fn text(shown: &Shown) -> String {
    let Some(taken) = &shown.taken else {
        return format!(
            "a base backup of {} is being taken already, by {}",
            shown.cluster,
            shown.held_by.as_deref().unwrap_or("somebody else")
        );
    };
    let mut text = format!(
        "base backup {} of {}: {} in {}, {} stored in each of {}\nWAL from {} to {} on timeline {}; `walferry backups` says when it is there\n",
        taken.label,
        shown.cluster,
        bytes(taken.size),
        duration(Duration::from_secs(taken.seconds)),
        bytes(taken.stored_size),
        taken.complete_in.join(", "),
        taken.start_lsn,
        taken.stop_lsn,
        taken.timeline,
    );
    for one in &taken.dropped {
        text.push_str(&format!(
            "DROPPED {}: {}; the next run copies it there\n",
            one.repository, one.reason
        ));
    }
    for one in &taken.copied {
        text.push_str(&format!(
            "{} is complete in {}, too\n",
            one.label, one.repository
        ));
    }
    for one in &taken.not_copied {
        text.push_str(&format!(
            "NOT COPIED {} to {}: {}\n",
            one.label, one.repository, one.reason
        ));
    }
    for one in &taken.cleaned {
        text.push_str(&format!(
            "remains of {} were removed from {}\n",
            one.label, one.repository
        ));
    }
    for timeline in &taken.histories {
        text.push_str(&format!(
            "the history of timeline {timeline} was archived\n"
        ));
    }
    text
}
