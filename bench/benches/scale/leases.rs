//! The leases that a simulated worker holds, renewed together as `shared/archive/src/leases.rs` does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use walferry_catalog::claims::{self, Claim};
use walferry_catalog::{Catalog, ClaimToken, FileId};

use crate::site::locked;

/// `archive.claim_lease`.
pub(crate) const LEASE: Duration = Duration::from_secs(8);
/// `archive.claim_renew`.
const RENEW: Duration = Duration::from_secs(2);

/// The tokens that one worker holds.
#[derive(Clone, Default)]
pub(crate) struct Leases(Arc<Mutex<HashMap<FileId, ClaimToken>>>);

/// A token that is renewed until this is dropped.
pub(crate) struct Held(Leases, FileId);

impl Leases {
    /// Renews `claim` from now on.
    pub(crate) fn hold(&self, claim: &Claim) -> Held {
        locked(&self.0).insert(claim.token.file, claim.token);
        Held(self.clone(), claim.token.file)
    }

    /// Renews what is held, for ever.
    pub(crate) async fn keep(self, catalog: Catalog) {
        loop {
            tokio::time::sleep(RENEW).await;
            let tokens: Vec<ClaimToken> = locked(&self.0).values().copied().collect();
            // A claim that was lost is told by the next fenced write.
            if let (false, Ok(mut conn)) = (tokens.is_empty(), catalog.get().await) {
                let _ = claims::renew(&mut conn, &tokens, LEASE).await;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        locked(&self.0.0).remove(&self.1);
    }
}
