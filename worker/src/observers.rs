//! What the libraries report, as metrics.

use std::time::Duration;

use walferry_archive::{archiver::Observer, stages::Stage};
use walferry_observe::{ClaimOutcome, Metrics};
use walferry_proof::RepositoryName;

/// Requests to the clouds.
pub struct StoreMetrics(pub Metrics);

impl walferry_store::Observer for StoreMetrics {
    fn request(
        &self,
        repository: &RepositoryName,
        operation: &'static str,
        outcome: &'static str,
        elapsed: Duration,
        bytes: u64,
    ) {
        self.0
            .request(repository.as_str(), operation, outcome, elapsed, bytes);
    }
}

/// Files and their copies.
pub struct ArchiveMetrics(pub Metrics);

impl Observer for ArchiveMetrics {
    fn archived(&self, cluster: &str, plain: u64, stored: u64, elapsed: Duration) {
        self.0.segment_archived(cluster, plain, stored, elapsed);
    }

    fn spent(&self, stage: Stage, time: Duration) {
        self.0.segment_stage(stage.as_str(), time);
    }

    fn copy(&self, repository: &RepositoryName, success: bool) {
        self.0.upload(repository.as_str(), success);
    }

    fn claim(&self, outcome: &'static str) {
        let outcome = match outcome {
            "claimed" => ClaimOutcome::Claimed,
            "completed" => ClaimOutcome::Completed,
            "waiting" => ClaimOutcome::Waiting,
            "failed" => ClaimOutcome::Failed,
            "lost" => ClaimOutcome::Lost,
            _ => ClaimOutcome::Released,
        };
        self.0.claims(outcome, 1);
    }

    fn taken_over(&self) {
        self.0.crash();
    }
}
