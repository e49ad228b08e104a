use std::sync::Arc;
use std::time::Duration;

use crate::connection::Connection;
use crate::error::QueueError;
use crate::job::{Enqueued, Envelope, IfRunning, NewJob};
use crate::name::{JobId, QueueName};
use crate::scripts::{self, Scripts, arguments};
use crate::settings::{QueueSettings, RedisSettings};
use walferry_killpoint::kill_point;

/// One queue on one Redis; cheap to clone.
#[derive(Clone)]
pub struct Queue {
    pub(crate) connection: Connection,
    pub(crate) name: QueueName,
    pub(crate) settings: Arc<QueueSettings>,
    pub(crate) scripts: Arc<Scripts>,
}

impl Queue {
    /// Does not connect: works with Redis down.
    ///
    /// # Errors
    /// Settings that contradict each other, a URL or certificates that cannot be
    /// used.
    pub fn new(
        redis: RedisSettings,
        name: QueueName,
        settings: QueueSettings,
    ) -> Result<Self, QueueError> {
        settings.validate()?;
        Ok(Self {
            connection: Connection::new(&redis)?,
            name,
            settings: Arc::new(settings),
            scripts: Arc::new(Scripts::new()),
        })
    }

    pub fn name(&self) -> &QueueName {
        &self.name
    }

    pub fn settings(&self) -> &QueueSettings {
        &self.settings
    }

    /// Adds a job. The id is chosen here, so that an order whose answer was lost
    /// is repeated once without adding a second job.
    ///
    /// # Errors
    /// When Redis did not answer twice: it is unknown whether the job was added.
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued, QueueError> {
        let envelope = Envelope {
            name: job.name,
            version: job.version,
            args: job.args,
        };
        let arguments = arguments![
            JobId::new(),
            envelope.to_json(),
            job.priority,
            job.max_attempts
                .unwrap_or(self.settings.max_attempts)
                .max(1),
            job.delay.as_millis(),
            job.unique_key.unwrap_or_default(),
            job.keep_key.as_millis(),
            match job.if_running {
                IfRunning::Skip => "skip",
                IfRunning::Again => "again",
            },
        ];
        kill_point!("queue.enqueue.before");
        let (what, id): (String, String) = match self.run(&self.scripts.enqueue, &arguments).await {
            Err(QueueError::Unreachable { .. } | QueueError::Timeout { .. }) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                self.run(&self.scripts.enqueue, &arguments).await
            }
            answer => answer,
        }?;
        kill_point!("queue.enqueue.after");
        let id = JobId::from_redis(id);
        match what.as_str() {
            "added" => Ok(Enqueued::Added(id)),
            "duplicate" => Ok(Enqueued::Duplicate(id)),
            "again" => Ok(Enqueued::Again(id)),
            _ => Err(QueueError::Answer { what }),
        }
    }

    /// Asks Redis for a sign of life.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping(&self) -> Result<(), QueueError> {
        self.connection
            .run(|mut redis| async move { redis::cmd("PING").query_async(&mut redis).await })
            .await
    }

    /// Asks Redis to take a write, on a key that it forgets by itself: with its memory full,
    /// its disk full or as a replica it answers a ping and takes none.
    ///
    /// # Errors
    /// When it takes none, with its reason.
    pub async fn takes_writes(&self) -> Result<(), QueueError> {
        let key = self.key("probe");
        self.connection
            .run(|mut redis| async move {
                let mut command = redis::cmd("SET");
                command.arg(key).arg("").arg("PX").arg(60_000);
                command.query_async(&mut redis).await
            })
            .await
    }

    pub(crate) async fn run<T: redis::FromRedisValue>(
        &self,
        script: &redis::Script,
        arguments: &[Vec<u8>],
    ) -> Result<T, QueueError> {
        scripts::run(&self.connection, script, &self.name, arguments).await
    }

    /// The full name of one of the queue's keys.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.name.hash_tag())
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("name", &self.name).finish()
    }
}
