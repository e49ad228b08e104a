use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use walferry_queue::{
    Consumer, ConsumerEnded, ConsumerHealth, Enqueued, Handler, Job, JobContext, JobId, JobState,
    JobView, NewJob, Outcome, Queue, QueueSettings, WorkerIdentity,
};

use crate::redis_server::RedisServer;

/// A Redis server and a queue on it. When the test is over, the queue is checked:
/// every job in exactly the set that its state names, nothing left leased.
pub(crate) struct World {
    pub(crate) redis: RedisServer,
    pub(crate) queue: Queue,
    /// For tests whose workers crash at the end.
    pub(crate) leases_may_stay: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(quick())
    }

    pub(crate) fn with(settings: QueueSettings) -> Self {
        let redis = RedisServer::start();
        let queue = queue_on(&redis, settings);
        Self {
            redis,
            queue,
            leases_may_stay: false,
        }
    }

    pub(crate) fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.queue.name())
    }

    /// One more worker with one slot.
    pub(crate) fn worker<F, Fut>(&self, work: F) -> Worker
    where
        F: Fn(Job, JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.worker_with_slots(1, work)
    }

    pub(crate) fn worker_with_slots<F, Fut>(&self, slots: usize, work: F) -> Worker
    where
        F: Fn(Job, JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        Worker::start(&self.queue, slots, Duration::from_secs(5), work)
    }

    pub(crate) async fn add(&self, name: &str) -> JobId {
        self.add_job(job(name)).await
    }

    pub(crate) async fn add_job(&self, job: NewJob) -> JobId {
        match self.queue.enqueue(job).await.unwrap() {
            Enqueued::Added(id) => id,
            other => panic!("not added: {other:?}"),
        }
    }

    pub(crate) async fn show(&self, id: &JobId) -> JobView {
        self.queue.show(id).await.unwrap().expect("the job exists")
    }

    pub(crate) async fn until_state(&self, id: &JobId, state: JobState) -> JobView {
        eventually(format!("{id} is {state:?}"), async || {
            let view = self.queue.show(id).await.ok().flatten()?;
            (view.state == state).then_some(view)
        })
        .await
    }

    fn check(&self) {
        let mut redis = self.redis.raw();
        let mut sets: HashMap<String, &str> = HashMap::new();
        for set in ["ready", "delayed", "leased", "dead", "done"] {
            let ids: Vec<String> = redis::cmd("ZRANGE")
                .arg(self.key(set))
                .arg(0)
                .arg(-1)
                .query(&mut redis)
                .unwrap();
            if set == "leased" && !self.leases_may_stay {
                assert!(ids.is_empty(), "left leased: {ids:?}");
            }
            for id in ids {
                let other = sets.insert(id.clone(), set);
                assert_eq!(other, None, "{id} is in two sets");
            }
        }
        let tasks: Vec<String> = redis::cmd("KEYS")
            .arg(self.key("task:*"))
            .query(&mut redis)
            .unwrap();
        for task in tasks {
            let state: String = redis::cmd("HGET")
                .arg(&task)
                .arg("state")
                .query(&mut redis)
                .unwrap();
            let id = task.rsplit(':').next().unwrap();
            let expected = if state == "cancelled" { "done" } else { &state };
            assert_eq!(
                sets.remove(id),
                Some(expected),
                "{id} says that it is {state}"
            );
        }
        assert!(sets.is_empty(), "ids without a task: {sets:?}");
        self.check_keys(&mut redis);
    }

    /// A unique key belongs to a job that has not ended, unless it runs out.
    fn check_keys(&self, redis: &mut redis::Connection) {
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(self.key("uniq:*"))
            .query(redis)
            .unwrap();
        for key in keys {
            let left: i64 = redis::cmd("PTTL").arg(&key).query(redis).unwrap();
            let id: Option<String> = redis::cmd("GET").arg(&key).query(redis).unwrap();
            let Some(id) = id.filter(|_| left == -1) else {
                continue;
            };
            let state: Option<String> = redis::cmd("HGET")
                .arg(self.key(&format!("task:{id}")))
                .arg("state")
                .query(redis)
                .unwrap();
            let living = ["ready", "delayed", "leased"];
            assert!(
                state.as_deref().is_some_and(|s| living.contains(&s)),
                "{key} is held by {id}, which is {state:?}"
            );
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

pub(crate) fn queue_on(redis: &RedisServer, settings: QueueSettings) -> Queue {
    Queue::new(redis.settings(), "test-queue".parse().unwrap(), settings).unwrap()
}

/// Everything about ten times faster than by default.
pub(crate) fn quick() -> QueueSettings {
    QueueSettings {
        lease: Duration::from_millis(1500),
        renew: Duration::from_millis(200),
        poll: Duration::from_millis(50),
        retry_base: Duration::from_millis(20),
        retry_max: Duration::from_millis(200),
        cancel_grace: Duration::from_millis(300),
        unknown_job_delay: Duration::from_millis(50),
        unknown_job_limit: Duration::from_millis(500),
        worker_stale: Duration::from_secs(1),
        ..QueueSettings::default()
    }
}

pub(crate) fn job(name: &str) -> NewJob {
    NewJob::new(name, 1, serde_json::json!({}))
}

/// A consumer in a task of its own.
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) shutdown: CancellationToken,
    pub(crate) health: ConsumerHealth,
    pub(crate) task: tokio::task::JoinHandle<Result<(), ConsumerEnded>>,
}

impl Worker {
    pub(crate) fn start<F, Fut>(queue: &Queue, slots: usize, grace: Duration, work: F) -> Self
    where
        F: Fn(Job, JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let worker = WorkerIdentity::of_this_process(&[queue.name().clone()]);
        let (shutdown, health) = (CancellationToken::new(), ConsumerHealth::new());
        let id = worker.id.clone();
        let consumer = Consumer {
            queue: queue.clone(),
            worker,
            slots,
            grace,
        };
        let handler = Work(Arc::new(move |job, context| work(job, context).boxed()));
        let task = tokio::spawn(consumer.run(handler, shutdown.clone(), health.clone()));
        Self {
            id,
            shutdown,
            health,
            task,
        }
    }

    /// Drains and insists on an orderly end.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// A handler that knows every job but `from-the-future`, and versions below 1000.
#[derive(Clone)]
struct Work(Arc<dyn Fn(Job, JobContext) -> BoxFuture<'static, Outcome> + Send + Sync>);

impl Handler for Work {
    fn knows(&self, name: &str, version: u32) -> bool {
        name != "from-the-future" && version < 1000
    }

    async fn handle(&self, job: Job, context: JobContext) -> Outcome {
        (self.0)(job, context).await
    }
}

/// What happened, in order, from any number of handlers.
#[derive(Clone, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    pub(crate) fn write(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    pub(crate) fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) async fn until(&self, entries: usize) -> Vec<String> {
        eventually(format!("{entries} diary entries"), async || {
            let read = self.read();
            (read.len() >= entries).then_some(read)
        })
        .await
    }
}

/// Waits for a state, for at most 30 s.
pub(crate) async fn eventually<T>(
    what: impl Into<String>,
    state: impl AsyncFn() -> Option<T>,
) -> T {
    within(Duration::from_secs(30), what, state).await
}

pub(crate) async fn within<T>(
    limit: Duration,
    what: impl Into<String>,
    state: impl AsyncFn() -> Option<T>,
) -> T {
    let (what, begun) = (what.into(), Instant::now());
    loop {
        if let Some(reached) = state().await {
            return reached;
        }
        assert!(begun.elapsed() < limit, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
