//! `walferry workers`: who gave a sign of life lately, and what they do.

use std::{collections::BTreeMap, process::ExitCode};

use chrono::{DateTime, Utc};
use walferry_queue::{QueueName, RunningJob};

use crate::{context::Context, output::table};

#[derive(clap::Args)]
#[command(after_help = "Example:\n  walferry workers --json")]
pub(crate) struct Args {
    /// Only those that serve this queue [default: every configured queue]
    #[arg(short = 'Q', long)]
    queue: Option<QueueName>,
}

/// One living worker.
#[derive(serde::Serialize)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) queues: Vec<String>,
    /// The archive directories that it reads, as `CLUSTER/NAME=PATH`.
    pub(crate) directories: Vec<String>,
    pub(crate) slots: u32,
    pub(crate) draining: bool,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) last_seen: DateTime<Utc>,
    pub(crate) jobs: Vec<RunningJob>,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let workers = living(ctx, args.queue).await?;
    ctx.output.show(&workers, |workers| {
        if workers.is_empty() {
            return "no worker has given a sign of life. HINT: is `walferry-worker` running, with the same REDIS_URL?".to_owned();
        }
        let rows: Vec<Vec<String>> = workers.iter().map(row).collect();
        table(
            &["worker", "host", "pid", "queues", "directories", "slots", "state", "jobs"],
            &rows,
        )
    })?;
    Ok(if workers.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Every worker of `queue`, or of all configured queues, once.
pub(crate) async fn living(ctx: &Context, queue: Option<QueueName>) -> anyhow::Result<Vec<Worker>> {
    let queues = match queue {
        Some(queue) => vec![ctx.queue(Some(queue))?],
        None => ctx.queues()?,
    };
    let mut workers: BTreeMap<String, Worker> = BTreeMap::new();
    for queue in queues {
        for view in queue.workers().await? {
            let worker = workers.entry(view.id.clone()).or_insert_with(|| Worker {
                id: view.id,
                host: view.host,
                pid: view.pid,
                queues: view.queues,
                directories: view.serves,
                slots: view.slots,
                draining: view.draining,
                started_at: view.started_at,
                last_seen: view.last_seen,
                jobs: Vec::new(),
            });
            worker.jobs.extend(view.jobs);
        }
    }
    Ok(workers.into_values().collect())
}

fn row(worker: &Worker) -> Vec<String> {
    let jobs: Vec<String> = worker
        .jobs
        .iter()
        .map(|job| format!("{} ({} s)", job.name, job.running_seconds))
        .collect();
    vec![
        worker.id.clone(),
        worker.host.clone(),
        worker.pid.to_string(),
        worker.queues.join(","),
        worker.directories.join(","),
        worker.slots.to_string(),
        if worker.draining {
            "draining"
        } else {
            "working"
        }
        .to_owned(),
        if jobs.is_empty() {
            "idle".to_owned()
        } else {
            jobs.join(", ")
        },
    ]
}
