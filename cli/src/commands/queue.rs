//! `walferry queue`: look into the queue and act on its jobs.

use std::process::ExitCode;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::{Subcommand, ValueEnum};
use walferry_queue::{Cancelled, JobId, JobState, JobView, Killed, Queue, QueueName};

use crate::{
    context::Context,
    output::{duration, table},
};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  walferry queue ls --state dead\n  walferry queue show ID\n  walferry queue retry --all\n  walferry queue cancel ID\n  walferry queue kill ID\n  walferry queue pause\n  walferry queue resume -Q sales\n  walferry queue stats"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// The queue [default: the configured one, `backups`]
    #[arg(short = 'Q', long, global = true)]
    queue: Option<QueueName>,
}

#[derive(Subcommand)]
enum Command {
    /// List jobs
    Ls {
        /// Only those [default: ready, delayed and leased]
        #[arg(long)]
        state: Option<State>,
        /// At most so many of each state
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// One job, with its payload and last error
    Show { id: JobId },
    /// Out of the dead letters, with all attempts anew
    Retry {
        #[arg(required_unless_present = "all")]
        id: Option<JobId>,
        /// Every dead letter
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
    /// End a job: a waiting one is removed, a running one is told to stop
    Cancel { id: JobId },
    /// Put a job into the dead letters now; a worker that runs it loses its lease
    Kill { id: JobId },
    /// Hand out no jobs until `resume`; what runs goes on
    Pause,
    /// End a pause
    Resume,
    /// Numbers, and how long the oldest job has waited
    Stats,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Ready,
    Delayed,
    Leased,
    Dead,
    Done,
    Cancelled,
}

#[derive(serde::Serialize)]
struct Job {
    id: String,
    state: JobState,
    name: String,
    version: u32,
    args: serde_json::Value,
    priority: u8,
    attempts: u32,
    max_attempts: u32,
    unique_key: Option<String>,
    enqueued_at: DateTime<Utc>,
    at: Option<DateTime<Utc>>,
    worker: Option<String>,
    error: Option<String>,
    cancel_requested: bool,
}

#[derive(serde::Serialize)]
struct Done {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<u64>,
}

#[derive(serde::Serialize)]
struct Stats {
    queue: String,
    paused_since: Option<DateTime<Utc>>,
    ready: u64,
    delayed: u64,
    leased: u64,
    dead: u64,
    done: u64,
    oldest_ready_seconds: Option<u64>,
    counts: std::collections::BTreeMap<String, u64>,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let queue = ctx.queue(args.queue)?;
    match args.command {
        Command::Ls { state, limit } => list(ctx, &queue, state, limit).await?,
        Command::Show { id } => {
            let Some(job) = queue.show(&id).await? else {
                bail!(
                    "there is no job `{id}`. HINT: `walferry queue ls` lists them; ended ones are kept up to a cap"
                );
            };
            ctx.output.show(&Job::from(job), shown)?;
        }
        Command::Retry { id: Some(id), .. } => {
            queue.retry(&id).await?;
            done(ctx, "ready", Some(&id), None)?;
        }
        Command::Retry { id: None, .. } => {
            let jobs = queue.retry_all_dead().await?;
            done(ctx, "ready", None, Some(jobs))?;
        }
        Command::Cancel { id } => {
            let outcome = match queue.cancel(&id).await? {
                Cancelled::Removed => "removed",
                Cancelled::Requested => "told to stop",
            };
            done(ctx, outcome, Some(&id), None)?;
        }
        Command::Kill { id } => {
            let outcome = match queue.kill(&id).await? {
                Killed::Dead => "dead",
                Killed::AlreadyDead => "was dead already",
            };
            done(ctx, outcome, Some(&id), None)?;
        }
        Command::Pause => {
            queue.pause().await?;
            done(ctx, "paused", None, None)?;
        }
        Command::Resume => {
            queue.resume().await?;
            done(ctx, "resumed", None, None)?;
        }
        Command::Stats => stats(ctx, &queue).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(
    ctx: &Context,
    queue: &Queue,
    state: Option<State>,
    limit: usize,
) -> anyhow::Result<()> {
    let states = match state {
        Some(State::Ready) => vec![JobState::Ready],
        Some(State::Delayed) => vec![JobState::Delayed],
        Some(State::Leased) => vec![JobState::Leased],
        Some(State::Dead) => vec![JobState::Dead],
        Some(State::Done) => vec![JobState::Done],
        Some(State::Cancelled) => vec![JobState::Cancelled],
        None => vec![JobState::Leased, JobState::Ready, JobState::Delayed],
    };
    let mut jobs = Vec::new();
    for state in states {
        jobs.extend(queue.list(state, limit).await?.into_iter().map(Job::from));
    }
    ctx.output.show(&jobs, |jobs| {
        if jobs.is_empty() {
            return "no jobs".to_owned();
        }
        let rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
        table(
            &[
                "id", "state", "pri", "job", "attempt", "at", "worker", "error",
            ],
            &rows,
        )
    })
}

fn row(job: &Job) -> Vec<String> {
    vec![
        job.id.clone(),
        state_name(job.state).to_owned(),
        job.priority.to_string(),
        job.name.clone(),
        format!("{}/{}", job.attempts, job.max_attempts),
        job.at.map_or_else(|| "-".to_owned(), time),
        job.worker.clone().unwrap_or_else(|| "-".to_owned()),
        job.error.clone().unwrap_or_default(),
    ]
}

fn shown(job: &Job) -> String {
    let mut text = format!(
        "job       {} {} (version {})\nstate     {}\npriority  {}\nattempts  {} of {}\nenqueued  {}\nargs      {}\n",
        job.id,
        job.name,
        job.version,
        state_name(job.state),
        job.priority,
        job.attempts,
        job.max_attempts,
        time(job.enqueued_at),
        job.args,
    );
    for (label, value) in [
        ("key       ", job.unique_key.clone()),
        ("at        ", job.at.map(time)),
        ("worker    ", job.worker.clone()),
        ("error     ", job.error.clone()),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("{label}{value}\n"));
        }
    }
    text
}

async fn stats(ctx: &Context, queue: &Queue) -> anyhow::Result<()> {
    let stats = queue.stats().await?;
    let stats = Stats {
        queue: queue.name().to_string(),
        paused_since: stats.paused_since,
        ready: stats.ready,
        delayed: stats.delayed,
        leased: stats.leased,
        dead: stats.dead,
        done: stats.done,
        oldest_ready_seconds: stats.oldest_ready_age.map(|age| age.as_secs()),
        counts: stats.counts.into_iter().collect(),
    };
    ctx.output.show(&stats, |stats| {
        let mut rows = vec![
            vec!["ready".to_owned(), stats.ready.to_string()],
            vec!["delayed".to_owned(), stats.delayed.to_string()],
            vec!["leased".to_owned(), stats.leased.to_string()],
            vec!["dead letters".to_owned(), stats.dead.to_string()],
            vec!["done (kept)".to_owned(), stats.done.to_string()],
        ];
        let age = stats.oldest_ready_seconds.map_or_else(
            || "-".to_owned(),
            |age| duration(std::time::Duration::from_secs(age)),
        );
        rows.push(vec!["oldest ready job waits".to_owned(), age]);
        if let Some(since) = stats.paused_since {
            rows.push(vec!["PAUSED since".to_owned(), time(since)]);
        }
        for (name, count) in &stats.counts {
            rows.push(vec![format!("{name}, ever"), count.to_string()]);
        }
        table(&["queue", &stats.queue], &rows)
    })
}

fn done(
    ctx: &Context,
    outcome: &'static str,
    id: Option<&JobId>,
    jobs: Option<u64>,
) -> anyhow::Result<()> {
    let done = Done {
        outcome,
        id: id.map(ToString::to_string),
        jobs,
    };
    ctx.output.show(&done, |done| match (&done.id, done.jobs) {
        (Some(id), _) => format!("{id}: {outcome}"),
        (None, Some(jobs)) => format!("{jobs} jobs: {outcome}"),
        (None, None) => outcome.to_owned(),
    })
}

fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Ready => "ready",
        JobState::Delayed => "delayed",
        JobState::Leased => "leased",
        JobState::Dead => "dead",
        JobState::Done => "done",
        JobState::Cancelled => "cancelled",
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

impl From<JobView> for Job {
    fn from(view: JobView) -> Self {
        Self {
            id: view.id.to_string(),
            state: view.state,
            name: view.name,
            version: view.version,
            args: view.args,
            priority: view.priority,
            attempts: view.attempts,
            max_attempts: view.max_attempts,
            unique_key: view.unique_key,
            enqueued_at: view.enqueued_at,
            at: view.at,
            worker: view.worker,
            error: view.error,
            cancel_requested: view.cancel_requested,
        }
    }
}
