//! `walferry enqueue`: puts a job on the queue by hand.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use walferry_config::Clusters;
use walferry_jobs::{Backfill, BaseBackup, ContinuousWalArchiving, JobKind, Retention};
use walferry_queue::{Enqueued, NewJob, Priority, QueueName};
use walferry_wal::WalFile;

use crate::context::Context;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  walferry enqueue continuous-wal-archiving\n  walferry enqueue backfill --dir /var/lib/postgresql/old_wal --from 000000010000000000000010 --dry-run\n  walferry enqueue retention --delay 10m\n  walferry enqueue base-backup --cluster main"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    job: Job,
    /// The queue [default: the cluster's]
    #[arg(long, global = true)]
    queue: Option<QueueName>,
    /// 0 to 10, 10 is taken first [default: the job's own]
    #[arg(long, global = true)]
    priority: Option<Priority>,
    /// Not before this long from now, e.g. 90s, 10m
    #[arg(long, global = true, value_parser = walferry_config::parse_duration)]
    delay: Option<Duration>,
    /// Show what would be enqueued
    #[arg(long, global = true)]
    dry_run: bool,
}

#[derive(Subcommand)]
enum Job {
    /// Archive what waits in the clusters' directories, now
    ContinuousWalArchiving {
        /// Only this cluster
        #[arg(long)]
        cluster: Option<String>,
    },
    /// Apply the retention policy, now
    Retention,
    /// Take a base backup of a cluster by a worker, now
    BaseBackup {
        /// The cluster [default: the only one]
        #[arg(long)]
        cluster: Option<String>,
    },
    /// Archive the WAL files of a directory that is not watched, once; each is deleted there when it is verified
    Backfill {
        /// The directory, as the worker sees it
        #[arg(long)]
        dir: PathBuf,
        /// First WAL file name, included
        #[arg(long)]
        from: Option<WalFile>,
        /// Last WAL file name, included
        #[arg(long)]
        to: Option<WalFile>,
        /// The cluster whose WAL it is [default: the only one]
        #[arg(long)]
        cluster: Option<String>,
    },
}

#[derive(serde::Serialize)]
struct Shown {
    id: Option<String>,
    /// `added`, `duplicate`, `again` or `dry-run`.
    outcome: &'static str,
    queue: String,
    job: String,
    priority: u8,
    args: serde_json::Value,
    /// The files that a backfill would take, when the directory can be read from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let clusters = ctx.get::<Clusters>()?;
    let mut files = None;
    let (mut job, cluster) = match args.job {
        Job::ContinuousWalArchiving { cluster } => {
            let payload = ContinuousWalArchiving {
                cluster: cluster.clone(),
                ordinal: None,
            };
            (new_job(&payload)?, cluster)
        }
        Job::Retention => (new_job(&Retention {})?, None),
        Job::BaseBackup { cluster } => {
            let cluster = super::backup::one(&clusters, cluster.as_deref())?;
            let payload = BaseBackup {
                cluster: cluster.name.clone(),
            };
            let job = NewJob {
                unique_key: Some(payload.unique_key()),
                ..new_job(&payload)?
            };
            (job, Some(payload.cluster))
        }
        Job::Backfill {
            dir,
            from,
            to,
            cluster,
        } => {
            let cluster = match cluster.or_else(|| clusters.only().map(|only| only.name.clone())) {
                Some(cluster) => cluster,
                None => bail!("several clusters are configured. HINT: say which with --cluster"),
            };
            files = count(&dir, from, to);
            let payload = Backfill {
                cluster: cluster.clone(),
                directory: dir
                    .to_str()
                    .context("the directory's name is not UTF-8")?
                    .to_owned(),
                from: from.map(|file| file.to_string()),
                to: to.map(|file| file.to_string()),
            };
            if payload.whole_path().is_none() {
                bail!(
                    "`{}` is not a path from the root without `..`. HINT: write the directory as the worker sees it, as /var/lib/postgresql/old_wal",
                    payload.directory.escape_debug()
                );
            }
            (new_job(&payload)?, Some(cluster))
        }
    };
    let queue = match (args.queue, &cluster) {
        (Some(queue), _) => Some(queue),
        (None, Some(name)) => Some(
            clusters
                .get(name)
                .with_context(|| format!("cluster `{name}` is not configured"))?
                .queue
                .clone(),
        ),
        (None, None) => None,
    };
    job.priority = args.priority.unwrap_or(job.priority);
    job.delay = args.delay.unwrap_or(job.delay);
    let queue = ctx.queue(queue)?;
    let mut shown = Shown {
        id: None,
        outcome: "dry-run",
        queue: queue.name().to_string(),
        job: job.name.clone(),
        priority: job.priority.get(),
        args: job.args.clone(),
        files,
    };
    if !args.dry_run {
        let enqueued = queue.enqueue(job).await?;
        shown.id = Some(enqueued.id().to_string());
        shown.outcome = match enqueued {
            Enqueued::Added(_) => "added",
            Enqueued::Duplicate(_) => "duplicate",
            Enqueued::Again(_) => "again",
        };
    }
    ctx.output.show(&shown, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(shown: &Shown) -> String {
    let what = match shown.outcome {
        "added" => "enqueued",
        "duplicate" => "is waiting already",
        "again" => "runs; it will run once more",
        _ => "would be enqueued",
    };
    let id = shown
        .id
        .as_deref()
        .map_or(String::new(), |id| format!(" as {id}"));
    let files = shown.files.map_or(String::new(), |files| {
        format!("; {files} WAL files lie there now")
    });
    format!(
        "{} {what} on queue {}{id}, priority {}{files}",
        shown.job, shown.queue, shown.priority
    )
}

fn new_job<J: JobKind>(payload: &J) -> anyhow::Result<NewJob> {
    Ok(NewJob {
        priority: Priority::try_from(J::PRIORITY)?,
        ..NewJob::new(J::NAME, J::VERSION, payload.to_args())
    })
}

/// How many files the backfill would find; `None` when the directory is on another host.
fn count(dir: &std::path::Path, from: Option<WalFile>, to: Option<WalFile>) -> Option<u64> {
    let wanted = |name: &str| {
        name.parse::<WalFile>().is_ok()
            && from.is_none_or(|from| name >= from.to_string().as_str())
            && to.is_none_or(|to| name <= to.to_string().as_str())
    };
    let entries = std::fs::read_dir(dir).ok()?;
    let files = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(wanted))
        .count();
    u64::try_from(files).ok()
}
