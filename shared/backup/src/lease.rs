//! One base at a time of a cluster: a lease in the catalog, by the catalog's clock.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use walferry_catalog::bases::{self, Begun, RunOutcome};
use walferry_catalog::{BaseRun, Catalog, CatalogError, ClusterId};

/// A killed run's successor waits so long.
const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(4);
/// Between two looks whether a run that holds the lease still lives.
const LOOK: Duration = Duration::from_secs(1);

/// What came of asking for the lease.
pub(crate) enum Asked {
    Mine(Lease),
    /// A run that lives has it.
    Busy(String),
}

/// Renewed until it is ended or dropped. Dropped, it runs out.
pub(crate) struct Lease {
    catalog: Catalog,
    cluster: ClusterId,
    run: BaseRun,
    renewing: JoinHandle<()>,
}

impl Lease {
    /// Takes the lease, after waiting out one of a run that was killed. `stop` is cancelled
    /// when it is lost.
    pub(crate) async fn ask(
        catalog: &Catalog,
        cluster: ClusterId,
        by: &str,
        stop: &CancellationToken,
    ) -> Result<Asked, CatalogError> {
        let asked = Instant::now();
        let mut first = None;
        loop {
            let mut conn = catalog.get().await?;
            let begun = bases::begin(&mut conn, cluster, by, LEASE).await?;
            drop(conn);
            match begun {
                Begun::Run(run) => {
                    let renewing = renew(catalog.clone(), cluster, run, stop.clone());
                    return Ok(Asked::Mine(Self {
                        catalog: catalog.clone(),
                        cluster,
                        run,
                        renewing: tokio::spawn(renewing),
                    }));
                }
                // Renewed since: whoever has it lives.
                Begun::Held { by, until }
                    if first.is_some_and(|first| until > first) || asked.elapsed() > LEASE * 2 =>
                {
                    return Ok(Asked::Busy(by));
                }
                Begun::Held { until, .. } => first = first.or(Some(until)),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Gives it back and writes down how the run ended; `None` says nothing of it. Returns
    /// how many failed in a row, this one included.
    pub(crate) async fn end(
        self,
        outcome: Option<(RunOutcome, Option<&str>)>,
    ) -> Result<u32, CatalogError> {
        self.renewing.abort();
        let mut conn = self.catalog.get().await?;
        let ended = bases::end(&mut conn, self.cluster, self.run, outcome).await?;
        Ok(ended.map_or(0, |ended| ended.failures))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn renew(catalog: Catalog, cluster: ClusterId, run: BaseRun, stop: CancellationToken) {
    loop {
        tokio::time::sleep(RENEW).await;
        let renewed = async {
            let mut conn = catalog.get().await?;
            bases::renew(&mut conn, cluster, run, LEASE).await
        };
        match renewed.await {
            Ok(true) => {}
            Ok(false) => {
                stop.cancel();
                return;
            }
            // The base goes on: hours of streaming are not given up for a catalog that is
            // restarted. If another run begins meanwhile this one is told when it is back.
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the lease of a base backup was not renewed"
            ),
        }
    }
}
