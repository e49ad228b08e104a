use crate::error::QueueError;
use crate::inspect::JobState;
use crate::name::JobId;
use crate::queue::Queue;
use crate::scripts::arguments;

/// What cancelling did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It waited and is removed.
    Removed,
    /// It runs; its worker learns of it with the next renewal of the lease.
    Requested,
}

/// What killing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// It lies in the dead letters.
    Dead,
    /// It lay there before.
    AlreadyDead,
}

impl Queue {
    /// Out of the dead letters, with all attempts anew; a delayed job becomes
    /// ready at once.
    ///
    /// # Errors
    /// No such job, one that is not dead or delayed, or whose unique key another
    /// one has taken; Redis away.
    pub async fn retry(&self, id: &JobId) -> Result<(), QueueError> {
        let answer: Vec<String> = self.run(&self.scripts.retry, &arguments![id]).await?;
        match answer.first().map(String::as_str) {
            Some("ready") if answer.len() == 1 => Ok(()),
            Some("key_taken") => Err(QueueError::KeyTaken {
                holder: JobId::from_redis(answer.get(1).cloned().unwrap_or_default()),
            }),
            other => Err(wrong_state(id, other.unwrap_or_default())),
        }
    }

    /// Every dead letter, oldest first; those whose unique key another job has
    /// taken stay. Returns how many left.
    ///
    /// # Errors
    /// Redis away: some may have left.
    pub async fn retry_all_dead(&self) -> Result<u64, QueueError> {
        let mut retried = 0;
        for id in self.ids(JobState::Dead, usize::MAX).await? {
            match self.retry(&id).await {
                Ok(()) => retried += 1,
                Err(
                    QueueError::KeyTaken { .. }
                    | QueueError::NoSuchJob { .. }
                    | QueueError::WrongState { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(retried)
    }

    /// A waiting job is removed; a running one's handler is told to stop, and the
    /// job ends as cancelled unless the handler was done before.
    ///
    /// # Errors
    /// No such job, or one that has ended; Redis away.
    pub async fn cancel(&self, id: &JobId) -> Result<Cancelled, QueueError> {
        match self.end(&self.scripts.cancel, id).await?.as_str() {
            "removed" => Ok(Cancelled::Removed),
            "requested" => Ok(Cancelled::Requested),
            other => Err(wrong_state(id, other)),
        }
    }

    /// To the dead letters now; a worker that runs it loses its lease.
    ///
    /// # Errors
    /// No such job, or one that has ended; Redis away.
    pub async fn kill(&self, id: &JobId) -> Result<Killed, QueueError> {
        match self.end(&self.scripts.kill, id).await?.as_str() {
            "killed" => Ok(Killed::Dead),
            "dead" => Ok(Killed::AlreadyDead),
            other => Err(wrong_state(id, other)),
        }
    }

    /// No worker takes a job any more; what runs goes on. Survives restarts.
    ///
    /// # Errors
    /// Redis away: it is unknown whether the queue is paused.
    pub async fn pause(&self) -> Result<(), QueueError> {
        let _: String = self.run(&self.scripts.pause, &[]).await?;
        Ok(())
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// Redis away: it is unknown whether the queue is paused.
    pub async fn resume(&self) -> Result<(), QueueError> {
        let (paused, wake) = (self.key("paused"), self.key("wake"));
        self.connection
            .run(|mut redis| async move {
                let mut both = redis::pipe();
                both.cmd("DEL").arg(paused).cmd("PUBLISH").arg(wake).arg("");
                both.query_async::<redis::Value>(&mut redis).await
            })
            .await
            .map(drop)
    }

    async fn end(&self, script: &redis::Script, id: &JobId) -> Result<String, QueueError> {
        let arguments = arguments![id, self.settings.done_cap, self.settings.dead_cap];
        self.run(script, &arguments).await
    }
}

fn wrong_state(id: &JobId, state: &str) -> QueueError {
    if state == "missing" {
        return QueueError::NoSuchJob { id: id.clone() };
    }
    QueueError::WrongState {
        id: id.clone(),
        state: state.to_owned(),
    }
}
