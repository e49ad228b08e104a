//! What `/readyz` of the worker looks at; `/healthz` looks at the consumers.

use walferry_config::WorkerConfig;
use walferry_observe::Checks;
use walferry_store::BreakerState;

use crate::setup::Setup;

/// Registers a check per dependency, each with its cause.
pub fn register(checks: &Checks, setup: &Setup, _config: &WorkerConfig) {
    for queue in setup.queues.iter() {
        let queue = queue.clone();
        checks.ready(&format!("redis:{}", queue.name()), move || {
            let queue = queue.clone();
            async move { queue.ping().await.map_err(|error| error.to_string()) }
        });
    }
    let catalog = setup.archiver.catalog().clone();
    checks.ready("catalog", move || {
        let catalog = catalog.clone();
        async move {
            catalog
                .get()
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        }
    });
    for target in setup.archiver.repositories() {
        let target = target.clone();
        checks.ready(&format!("repository:{}", target.name()), move || {
            let state = match target.store.state() {
                BreakerState::Open { cause, .. } => Err(format!("not answering: {cause}")),
                BreakerState::Closed | BreakerState::HalfOpen { .. } => Ok(()),
            };
            async move { state }
        });
    }
    for directory in setup.directories.iter() {
        let path = directory.path.clone();
        checks.ready(
            &format!("directory:{}/{}", directory.cluster, directory.name),
            move || {
                let path = path.clone();
                async move {
                    tokio::fs::read_dir(&path)
                        .await
                        .map(drop)
                        .map_err(|error| format!("{}: {error}", path.display()))
                }
            },
        );
    }
}
