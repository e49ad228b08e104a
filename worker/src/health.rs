//! What `/readyz` of the worker looks at; `/healthz` looks at the consumers.

use walferry_catalog::server;
use walferry_observe::Checks;
use walferry_store::{BreakerState, ReadRepository as _};

use crate::setup::Setup;

/// Registers a check per dependency, each with its cause.
pub fn register(checks: &Checks, setup: &Setup) {
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
            let mut conn = catalog.get().await.map_err(|error| error.to_string())?;
            match server::takes_writes(&mut conn).await {
                Ok(true) => Ok(()),
                Ok(false) => Err("read-only: nothing can be recorded".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        }
    });
    for target in setup.archiver.repositories() {
        let target = target.clone();
        checks.ready(&format!("repository:{}", target.name()), move || {
            let target = target.clone();
            async move {
                match target.store.state() {
                    BreakerState::Closed => Ok(()),
                    BreakerState::Open { cause, .. } => Err(format!("not answering: {cause}")),
                    // Nobody knows, so it is asked.
                    BreakerState::HalfOpen { .. } => target
                        .store
                        .probe()
                        .await
                        .map_err(|error| format!("not answering: {}", error.cause())),
                }
            }
        });
    }
    for directory in setup.directories.iter() {
        let path = directory.path.clone();
        checks.ready(
            &format!("directory:{}/{}", directory.cluster, directory.name),
            move || {
                let path = path.clone();
                async move {
                    let told = path.display().to_string();
                    tokio::task::spawn_blocking(move || walferry_spool::usable(&path))
                        .await
                        .map_err(|error| error.to_string())?
                        .map_err(|error| format!("{told}: {error}"))
                }
            },
        );
    }
}
