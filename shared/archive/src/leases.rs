//! The leases of the claims that this process holds.
//!
//! One task renews all of them with one statement, on time of its own, so that a slow
//! upload never costs a lease. A claim that the catalog says is lost, or whose lease ran
//! out while the catalog did not answer, has its token cancelled: whatever works on it
//! stops. The catalog's fence (file and attempt) decides; the token only saves work.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use walferry_catalog::{
    Catalog, CatalogError, ClaimToken, FileId,
    claims::{self, Claim},
};

/// The claims of this process. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    held: Arc<Mutex<HashMap<FileId, Held>>>,
    catalog: Catalog,
    lease: Duration,
}

struct Held {
    token: ClaimToken,
    cancel: CancellationToken,
    /// By our monotonic clock, counted from *before* the request that gave the lease was
    /// sent: never later than the catalog's own end of it.
    ends: Instant,
    /// A statement that may end the claim is under way: not being held is no loss then.
    settling: bool,
}

/// One held claim. Dropping it ends the renewing.
pub struct Lease {
    holds: Holds,
    leases: Leases,
    parent: CancellationToken,
}

/// Asks whether a claim is still held; may outlive the lease, and then says no.
#[derive(Clone)]
pub struct Holds {
    token: ClaimToken,
    cancel: CancellationToken,
    catalog: Catalog,
}

/// The claim is no longer ours: nothing may be written for it any more.
#[derive(Debug, thiserror::Error)]
pub enum LeaseLost {
    /// Another worker has it, or it ran out.
    #[error("the lease on the claim was lost")]
    Lost,
    /// The job was cancelled or lost, and its claims with it.
    #[error("the job was stopped")]
    Stopped,
    /// The catalog could not be asked.
    #[error("ask the catalog whether the claim is still held")]
    Unknown(#[source] CatalogError),
}

impl Leases {
    /// Starts the renewing task; it ends when `stop` is cancelled.
    #[must_use]
    pub fn start(
        catalog: Catalog,
        lease: Duration,
        renew: Duration,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let leases = Self {
            held: Arc::default(),
            catalog,
            lease,
        };
        let renewing = leases.clone();
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(renew);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = tick.tick() => renewing.renew().await,
                }
            }
        });
        (leases, task)
    }

    /// How long a lease lasts.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.lease
    }

    /// Takes over a claim that was asked for at `asked`; `parent` cancels it too.
    #[must_use]
    pub fn hold(&self, claim: &Claim, asked: Instant, parent: &CancellationToken) -> Lease {
        let cancel = parent.child_token();
        self.lock().insert(
            claim.token.file,
            Held {
                token: claim.token,
                cancel: cancel.clone(),
                ends: asked + self.lease,
                settling: false,
            },
        );
        Lease {
            holds: Holds {
                token: claim.token,
                cancel,
                catalog: self.catalog.clone(),
            },
            leases: self.clone(),
            parent: parent.clone(),
        }
    }

    async fn renew(&self) {
        let tokens: Vec<ClaimToken> = self.lock().values().map(|held| held.token).collect();
        if tokens.is_empty() {
            return;
        }
        let asked = Instant::now();
        // A catalog that does not answer within the lease has let it run out.
        let renewed = tokio::time::timeout(self.lease, async {
            let mut conn = self.catalog.get().await?;
            claims::renew(&mut conn, &tokens, self.lease).await
        })
        .await;
        let mut held = self.lock();
        match renewed {
            Ok(Ok(kept)) => {
                for token in tokens {
                    let Some(entry) = held.get_mut(&token.file).filter(|h| h.token == token) else {
                        continue;
                    };
                    if kept.contains(&token) {
                        entry.ends = asked + self.lease;
                    } else if !entry.settling {
                        entry.cancel.cancel();
                    }
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "claims could not be renewed"
                );
            }
            Err(_) => tracing::warn!("claims could not be renewed: the catalog does not answer"),
        }
        let now = Instant::now();
        for entry in held.values().filter(|entry| entry.ends <= now) {
            entry.cancel.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FileId, Held>> {
        // The map holds no invariant that a panic could break half-way.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Cancelled when the claim is lost or its job is to stop.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.holds.cancel
    }

    /// Why it was cancelled.
    #[must_use]
    pub fn lost(&self) -> LeaseLost {
        if self.parent.is_cancelled() {
            LeaseLost::Stopped
        } else {
            LeaseLost::Lost
        }
    }

    /// To be called with `true` before a statement that may end the claim, and with `false`
    /// when it did not: a renewal that overtakes the statement's answer must not take the
    /// end that we asked for, for a loss. The fence in the catalog decides all the same.
    pub fn settle(&self, settling: bool) {
        if let Some(entry) = self
            .leases
            .lock()
            .get_mut(&self.holds.token.file)
            .filter(|entry| entry.token == self.holds.token)
        {
            entry.settling = settling;
        }
    }

    /// The question alone, for a thread that the lease cannot be lent to.
    #[must_use]
    pub fn holds(&self) -> Holds {
        self.holds.clone()
    }

    /// Asks the catalog whether the claim is still ours: before every PUT and every unlink.
    ///
    /// # Errors
    /// [`LeaseLost`]; then the PUT or unlink must not happen.
    pub async fn check(&self) -> Result<(), LeaseLost> {
        self.holds.check().await
    }
}

impl Holds {
    /// As [`Lease::check`].
    ///
    /// # Errors
    /// [`LeaseLost`].
    pub async fn check(&self) -> Result<(), LeaseLost> {
        if self.cancel.is_cancelled() {
            return Err(LeaseLost::Lost);
        }
        let held = async {
            let mut conn = self.catalog.get().await?;
            claims::still_held(&mut conn, self.token).await
        }
        .await
        .map_err(LeaseLost::Unknown)?;
        if held {
            Ok(())
        } else {
            self.cancel.cancel();
            Err(LeaseLost::Lost)
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.lock();
        if held
            .get(&self.holds.token.file)
            .is_some_and(|entry| entry.token == self.holds.token)
        {
            held.remove(&self.holds.token.file);
        }
    }
}
