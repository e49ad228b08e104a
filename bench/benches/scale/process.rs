//! One claimed file, with the calls of `shared/archive/src/process.rs`.

use tokio::sync::OwnedSemaphorePermit;
use walferry_catalog::claims::{self, Claim, CopyState, Encoder, ReleaseAs};
use walferry_catalog::completion::{self, Completed, Enough, Packed};
use walferry_proof::{Evidence, Expected, ExpectedEtag, Reported, Verified, VerifyMode};

use crate::site::{SEGMENT, locked};
use crate::worker::{Failure, Worker};

/// What a packed segment weighs: of no account to queue and catalog.
const STORED: u64 = SEGMENT / 8;

impl Worker {
    /// Runs a claim to its end; `room` is given back when the first cloud has its copy.
    pub(crate) async fn process(
        &self,
        at: usize,
        claim: Claim,
        room: OwnedSemaphorePermit,
    ) -> Result<(), Failure> {
        let due = claim
            .copies
            .iter()
            .filter(|copy| copy.state == CopyState::Due)
            .count();
        let here = locked(&self.site.clusters[at].files).contains_key(&claim.file);
        if due == 0 || !here {
            // Registered once more while another worker deleted it.
            let mut conn = self.catalog.get().await?;
            claims::release(&mut conn, claim.token, ReleaseAs::Nothing).await?;
            return Ok(());
        }
        let encoder = claim.encoder.clone().unwrap_or(Encoder {
            name: "fitted".into(),
            level: 9,
        });
        let thread = self.packing.acquire().await?;
        tokio::time::sleep(self.site.pack).await;
        drop(thread);
        let key = walferry_layout::object_key(&claim.prefix.key_prefix, &claim.file);
        let sha256 = walferry_proof::sha256(key.as_str().as_bytes());
        let md5 = walferry_proof::md5(key.as_str().as_bytes());
        let packed = Packed {
            sha256,
            size: SEGMENT,
            encoder,
            compressed_size: STORED,
            compressed_md5: md5,
        };
        completion::set_packed(&mut *self.catalog.get().await?, claim.token, &packed).await?;
        // Each upload asks whether the claim is still held, before its PUT.
        for _ in 0..due {
            self.still_held(&claim).await?;
        }
        tokio::time::sleep(self.site.upload).await;
        drop(room);
        let expected = Expected {
            sha256,
            plain_size: SEGMENT,
            stored_size: STORED,
            stored_md5: md5,
            etag: ExpectedEtag::Single(md5),
        };
        let verified: Result<Vec<Verified>, _> = claim
            .copies
            .iter()
            .filter(|copy| copy.state == CopyState::Due)
            .map(|copy| {
                let evidence = Evidence::Head {
                    size: STORED,
                    etag: Some(md5.to_string()),
                    sha256_metadata: Some(sha256),
                };
                let repository = copy.repository.clone();
                let reported = Reported {
                    repository,
                    key: key.clone(),
                    evidence,
                };
                Verified::compare(&expected, reported, VerifyMode::Head)
            })
            .collect();
        let completed = {
            let mut conn = self.catalog.get().await?;
            let enough = Enough::AllRequired;
            completion::complete(&mut conn, claim.token, verified?, Vec::new(), enough).await?
        };
        let Completed::Archived(archived) = completed else {
            return Err(format!("`{key}` was complete and is not archived").into());
        };
        self.site.verified(at, claim.file);
        // Deleting asks once more, and unlinks.
        self.still_held(&claim).await?;
        let cluster = &self.site.clusters[at];
        let unlinked = locked(&cluster.files).remove(&claim.file);
        let deleted: Vec<_> = unlinked
            .map(|(stat, _)| (cluster.directory, stat))
            .into_iter()
            .collect();
        let mut conn = self.catalog.get().await?;
        completion::local_deleted(&mut conn, &archived, &deleted).await?;
        Ok(())
    }

    async fn still_held(&self, claim: &Claim) -> Result<(), Failure> {
        let mut conn = self.catalog.get().await?;
        if claims::still_held(&mut conn, claim.token).await? {
            return Ok(());
        }
        Err(format!("the claim of `{}` was lost", claim.file).into())
    }
}
