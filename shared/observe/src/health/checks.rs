use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;

/// Longer than this is an answer too: whoever asks gives up after a few
/// seconds, and a hanging check must not hide the others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

type Verdict = Result<(), String>;
type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Verdict> + Send>> + Send + Sync>;

/// The checks of one program; a binary registers them, the server asks them.
#[derive(Clone, Default)]
pub struct Checks {
    alive: Arc<RwLock<BTreeMap<String, Check>>>,
    ready: Arc<RwLock<BTreeMap<String, Check>>>,
}

/// What the checks said.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `ok` or `failing`.
    pub status: &'static str,
    /// Name to cause.
    pub failing: BTreeMap<String, String>,
    pub passed: Vec<String>,
}

impl Report {
    pub fn is_ok(&self) -> bool {
        self.failing.is_empty()
    }
}

impl Checks {
    pub fn new() -> Self {
        Self::default()
    }

    /// A check whose failure a restart would mend: asked by `/healthz` and
    /// `/readyz`. It must not fail because another system is down.
    pub fn alive<F, R>(&self, name: &str, check: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Verdict> + Send + 'static,
    {
        register(&self.alive, name, check);
    }

    /// A check whose failure only means that work cannot go on now: asked by
    /// `/readyz`.
    pub fn ready<F, R>(&self, name: &str, check: F)
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Verdict> + Send + 'static,
    {
        register(&self.ready, name, check);
    }

    pub async fn liveness(&self) -> Report {
        ask(copy(&self.alive)).await
    }

    pub async fn readiness(&self) -> Report {
        let mut checks = copy(&self.alive);
        checks.extend(copy(&self.ready));
        ask(checks).await
    }
}

fn register<F, R>(checks: &RwLock<BTreeMap<String, Check>>, name: &str, check: F)
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Verdict> + Send + 'static,
{
    let check: Check = Arc::new(move || Box::pin(check()));
    checks
        .write()
        .expect("nothing panics while it holds the lock")
        .insert(name.to_owned(), check);
}

fn copy(checks: &RwLock<BTreeMap<String, Check>>) -> BTreeMap<String, Check> {
    checks
        .read()
        .expect("nothing panics while it holds the lock")
        .clone()
}

/// Asks all of them at the same time.
async fn ask(checks: BTreeMap<String, Check>) -> Report {
    let mut asked = JoinSet::new();
    let mut names = BTreeMap::new();
    for (name, check) in checks {
        let task = asked.spawn(async move { tokio::time::timeout(PATIENCE, check()).await });
        names.insert(task.id(), name);
    }
    let mut report = Report {
        status: "ok",
        failing: BTreeMap::new(),
        passed: Vec::new(),
    };
    while let Some(ended) = asked.join_next_with_id().await {
        let (id, verdict) = match ended {
            Ok((id, Ok(verdict))) => (id, verdict),
            Ok((id, Err(_))) => (
                id,
                Err(format!("no answer within {} s", PATIENCE.as_secs())),
            ),
            // A check that cannot be made proves nothing good.
            Err(error) => (error.id(), Err("the check itself failed".to_owned())),
        };
        let name = names.remove(&id).unwrap_or_default();
        match verdict {
            Ok(()) => report.passed.push(name),
            Err(cause) => drop(report.failing.insert(name, cause)),
        }
    }
    report.passed.sort();
    if !report.failing.is_empty() {
        report.status = "failing";
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_failing_cause_is_named_also_of_a_check_that_hangs_or_panics() {
        let checks = Checks::new();
        checks.alive("consumer", || async { Ok(()) });
        checks.ready("catalog", || async { Err("connection refused".to_owned()) });
        checks.ready("redis", std::future::pending);
        checks.ready("spool", || async { panic!("on purpose") });

        let report = tokio::time::timeout(PATIENCE * 2, checks.readiness());
        let report = report
            .await
            .expect("one check that hangs does not hold up the others");
        assert_eq!(report.status, "failing");
        let failing: Vec<(&str, &str)> = report
            .failing
            .iter()
            .map(|(name, cause)| (name.as_str(), cause.as_str()))
            .collect();
        assert_eq!(
            failing,
            [
                ("catalog", "connection refused"),
                ("redis", "no answer within 2 s"),
                ("spool", "the check itself failed"),
            ]
        );
        assert_eq!(report.passed, ["consumer"]);
    }

    #[tokio::test]
    async fn what_is_only_not_ready_is_alive() {
        let checks = Checks::new();
        checks.alive("consumer", || async { Ok(()) });
        checks.ready("redis", || async { Err("connection refused".to_owned()) });
        assert!(checks.liveness().await.is_ok());
        assert!(!checks.readiness().await.is_ok());
    }

    #[tokio::test]
    async fn what_is_not_alive_is_not_ready() {
        let checks = Checks::new();
        checks.alive("consumer", || async { Err("ended".to_owned()) });
        assert!(!checks.liveness().await.is_ok());
        assert!(!checks.readiness().await.is_ok());
    }
}
