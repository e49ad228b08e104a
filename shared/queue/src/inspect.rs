use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::QueueError;
use crate::job::{Envelope, time_from_ms};
use crate::name::JobId;
use crate::queue::Queue;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    Ready,
    Delayed,
    /// A worker has it.
    Leased,
    Dead,
    Done,
    /// Listed among the done ones.
    Cancelled,
}

/// The queue at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStats {
    pub ready: u64,
    pub delayed: u64,
    pub leased: u64,
    pub dead: u64,
    pub done: u64,
    /// Since when nothing is handed out.
    pub paused_since: Option<DateTime<Utc>>,
    /// How long the longest-waiting ready job has been ready.
    pub oldest_ready_age: Option<Duration>,
    /// Since the queue exists: `enqueued`, `done`, `cancelled`, `dead`, `retried`,
    /// `rescued` (leases that ran out), `given_back`.
    pub counts: HashMap<String, u64>,
    /// Keys of the queue that held something else and were put aside, and are there still.
    pub aside: Vec<String>,
    /// Jobs that wait because their last worker knew no such job or version; counted up to 100.
    pub unknown: u64,
    /// Redis's clock.
    pub now: DateTime<Utc>,
}

impl QueueStats {
    pub fn paused(&self) -> bool {
        self.paused_since.is_some()
    }
}

/// A job as an operator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    pub id: JobId,
    pub state: JobState,
    /// Empty when the payload does not decode; see `payload`.
    pub name: String,
    pub version: u32,
    pub args: serde_json::Value,
    /// As it lies in Redis.
    pub payload: String,
    pub priority: u8,
    /// Attempts begun.
    pub attempts: u32,
    pub max_attempts: u32,
    pub unique_key: Option<String>,
    pub enqueued_at: DateTime<Utc>,
    /// When a delayed job is due, a leased one's lease runs out, an ended one
    /// ended.
    pub at: Option<DateTime<Utc>>,
    /// The worker that has or had it.
    pub worker: Option<String>,
    /// The last error, or the reason why it was given back.
    pub error: Option<String>,
    /// An operator asked for its end.
    pub cancel_requested: bool,
}

/// A worker that gave a sign of life lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    pub id: String,
    pub host: String,
    pub pid: u32,
    pub queues: Vec<String>,
    /// What it said that it serves.
    pub serves: Vec<String>,
    pub slots: u32,
    pub draining: bool,
    pub jobs: Vec<RunningJob>,
    pub started_at: DateTime<Utc>,
    pub last_seen: DateTime<Utc>,
}

/// A job in a worker's hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningJob {
    pub id: String,
    pub name: String,
    pub attempt: u32,
    /// By the worker's own clock, unlike everything else.
    pub running_seconds: u64,
}

impl Queue {
    /// # Errors
    /// Redis away.
    pub async fn stats(&self) -> Result<QueueStats, QueueError> {
        type Answer = (
            i64,
            u64,
            u64,
            u64,
            u64,
            u64,
            i64,
            i64,
            Vec<String>,
            Vec<String>,
            u64,
        );
        let answer: Answer = self.run(&self.scripts.stats, &[]).await?;
        let (now, ready, delayed, leased, dead, done, paused, oldest, counts, aside, unknown) =
            answer;
        Ok(QueueStats {
            ready,
            delayed,
            leased,
            dead,
            done,
            paused_since: (paused >= 0).then(|| time_from_ms(paused)),
            oldest_ready_age: (oldest >= 0)
                .then(|| Duration::from_millis(u64::try_from(now - oldest).unwrap_or(0))),
            counts: counts
                .chunks_exact(2)
                .map(|pair| (pair[0].clone(), pair[1].parse().unwrap_or(0)))
                .collect(),
            aside,
            unknown,
            now: time_from_ms(now),
        })
    }

    /// Up to `limit` jobs of one state, in the order in which they will be taken
    /// or became due; the dead and the done newest first.
    ///
    /// # Errors
    /// Redis away.
    pub async fn list(&self, state: JobState, limit: usize) -> Result<Vec<JobView>, QueueError> {
        let ids = self.ids(state, limit).await?;
        let mut views = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(500) {
            views.extend(self.views(chunk).await?.into_iter().flatten());
        }
        if state == JobState::Cancelled || state == JobState::Done {
            views.retain(|view| view.state == state);
        }
        Ok(views)
    }

    /// # Errors
    /// Redis away.
    pub async fn show(&self, id: &JobId) -> Result<Option<JobView>, QueueError> {
        let views = self.views(std::slice::from_ref(id)).await?;
        Ok(views.into_iter().next().flatten())
    }

    /// The workers that serve this queue and gave a sign of life within
    /// `worker_stale`, by id.
    ///
    /// # Errors
    /// Redis away.
    pub async fn workers(&self) -> Result<Vec<WorkerView>, QueueError> {
        let key = self.key("workers");
        let ids: Vec<String> = self
            .connection
            .run(|mut redis| async move {
                let mut command = redis::cmd("ZRANGE");
                command.arg(key).arg(0).arg(-1);
                command.query_async(&mut redis).await
            })
            .await?;
        let keys = ids.iter().map(|id| self.key(&format!("worker:{id}")));
        let hashes = self.hashes(keys.collect()).await?;
        // A worker whose hash has expired is no more, though its id may still be
        // listed until the next living one cleans up.
        let living = ids
            .into_iter()
            .zip(hashes)
            .filter(|(_, hash)| !hash.is_empty());
        let mut workers: Vec<_> = living.map(|(id, hash)| worker_view(id, &hash)).collect();
        workers.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(workers)
    }

    pub(crate) async fn ids(
        &self,
        state: JobState,
        limit: usize,
    ) -> Result<Vec<JobId>, QueueError> {
        let (set, newest_first) = match state {
            JobState::Ready => ("ready", false),
            JobState::Delayed => ("delayed", false),
            JobState::Leased => ("leased", false),
            JobState::Dead => ("dead", true),
            JobState::Done | JobState::Cancelled => ("done", true),
        };
        if limit == 0 {
            return Ok(Vec::new());
        }
        let last = i64::try_from(limit - 1).unwrap_or(-1);
        let key = self.key(set);
        let ids: Vec<String> = self
            .connection
            .run(|mut redis| async move {
                let mut command = redis::cmd(if newest_first { "ZREVRANGE" } else { "ZRANGE" });
                command.arg(key).arg(0).arg(last);
                command.query_async(&mut redis).await
            })
            .await?;
        Ok(ids.into_iter().map(JobId::from_redis).collect())
    }

    async fn views(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, QueueError> {
        let keys = ids.iter().map(|id| self.key(&format!("task:{id}")));
        let hashes = self.hashes(keys.collect()).await?;
        let (leased, delayed) = (self.key("leased"), self.key("delayed"));
        let ids_text: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let scores: Vec<Option<f64>> = self
            .connection
            .run(|mut redis| async move {
                let mut all = redis::pipe();
                for id in &ids_text {
                    all.cmd("ZSCORE").arg(&leased).arg(id);
                    all.cmd("ZSCORE").arg(&delayed).arg(id);
                }
                all.query_async(&mut redis).await
            })
            .await?;
        let pairs = scores.chunks_exact(2).map(|pair| pair[0].or(pair[1]));
        Ok(ids
            .iter()
            .zip(hashes)
            .zip(pairs)
            .map(|((id, hash), score)| job_view(id, &hash, score))
            .collect())
    }

    async fn hashes(&self, keys: Vec<String>) -> Result<Vec<Hash>, QueueError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.connection
            .run(|mut redis| async move {
                let mut all = redis::pipe();
                for key in keys {
                    all.cmd("HGETALL").arg(key);
                }
                all.query_async(&mut redis).await
            })
            .await
    }
}

type Hash = HashMap<String, Vec<u8>>;

fn text(hash: &Hash, field: &str) -> Option<String> {
    let value = hash.get(field)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn number<T: std::str::FromStr + Default>(hash: &Hash, field: &str) -> T {
    text(hash, field)
        .and_then(|value| value.parse().ok())
        .unwrap_or_default()
}

fn job_view(id: &JobId, hash: &Hash, score: Option<f64>) -> Option<JobView> {
    let state = match text(hash, "state")?.as_str() {
        "ready" => JobState::Ready,
        "delayed" => JobState::Delayed,
        "leased" => JobState::Leased,
        "dead" => JobState::Dead,
        "cancelled" => JobState::Cancelled,
        _ => JobState::Done,
    };
    let payload = text(hash, "payload").unwrap_or_default();
    let envelope = Envelope::parse(payload.as_bytes()).ok();
    let ended = hash.get("ended_ms").map(|_| number(hash, "ended_ms"));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "milliseconds fit in 53 bits"
    )]
    let at = ended.or(score.map(|ms| ms as i64));
    Some(JobView {
        id: id.clone(),
        state,
        name: envelope
            .as_ref()
            .map(|e| e.name.clone())
            .unwrap_or_default(),
        version: envelope.as_ref().map(|e| e.version).unwrap_or_default(),
        args: envelope.map(|e| e.args).unwrap_or_default(),
        payload,
        priority: number(hash, "priority"),
        attempts: number(hash, "attempts"),
        max_attempts: number(hash, "max_attempts"),
        unique_key: text(hash, "key"),
        enqueued_at: time_from_ms(number(hash, "enqueued_ms")),
        at: at.map(time_from_ms),
        worker: text(hash, "worker"),
        error: text(hash, "error"),
        cancel_requested: hash.contains_key("cancel"),
    })
}

fn worker_view(id: String, hash: &Hash) -> WorkerView {
    let queues = text(hash, "queues").unwrap_or_default();
    let jobs = text(hash, "jobs").unwrap_or_default();
    let serves = text(hash, "serves").unwrap_or_default();
    WorkerView {
        id,
        host: text(hash, "host").unwrap_or_default(),
        pid: number(hash, "pid"),
        queues: queues.split_whitespace().map(str::to_owned).collect(),
        serves: serde_json::from_str(&serves).unwrap_or_default(),
        slots: number(hash, "slots"),
        draining: text(hash, "draining").as_deref() == Some("1"),
        jobs: serde_json::from_str(&jobs).unwrap_or_default(),
        started_at: time_from_ms(number(hash, "started_ms")),
        last_seen: time_from_ms(number(hash, "seen_ms")),
    }
}
