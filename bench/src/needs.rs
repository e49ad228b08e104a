//! What a number of clusters needs, computed from what was measured. Pure.

use crate::prices::{self, DAYS, Month};

/// What this run measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// A full segment and a lightly filled one.
    pub full: Segment,
    /// The latter.
    pub light: Segment,
    /// Requests for one segment to each cloud.
    pub r2: Requests,
    pub b2: Requests,
    /// Of one segment's rows and index entries.
    pub catalog_bytes: f64,
    /// The catalog's processor seconds for one segment, at the largest number of clusters.
    pub catalog_cpu: f64,
    /// Redis's, likewise.
    pub redis_cpu: f64,
    /// Of one waiting job.
    pub job_bytes: f64,
}

/// One segment of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// A real worker's processor seconds for it, both uploads included.
    pub cpu: f64,
    /// Bytes in each cloud.
    pub stored: f64,
}

/// Requests that one segment costs until it is VERIFIED.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requests {
    pub puts: f64,
    pub reads: f64,
    pub lists: f64,
}

/// What is asked of the archive.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    pub clusters: f64,
    /// Segments a minute that one cluster hands over.
    pub per_minute: f64,
    pub segment: Segment,
    /// For how long segments are kept.
    pub retention_days: f64,
}

/// What that takes.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    pub segments_per_second: f64,
    /// Of a core, by the workers, if they never waited.
    pub packing_cores: f64,
    /// Workers of two packing threads each, half of their time spare.
    pub workers: f64,
    /// Of a core.
    pub catalog_cores: f64,
    pub redis_cores: f64,
    /// All the jobs that can wait at once.
    pub redis_bytes: f64,
    /// Rows of what retention keeps.
    pub catalog_kept: f64,
    /// Rows of a year's segments, if all were kept.
    pub catalog_year: f64,
    /// To both clouds together.
    pub upload_bits_per_second: f64,
    pub r2: Month,
    pub b2: Month,
}

/// Packing threads of one worker in the table.
pub const THREADS: f64 = 2.0;
/// A worker is to be busy for this part of its time.
const BUSY: f64 = 0.5;
/// One cluster's jobs that can wait at once: follow-ups 0 to 15.
const JOBS: f64 = 16.0;
/// Redis keeps this many ended jobs (`queue.done_cap`).
const DONE: f64 = 1_000.0;

impl Needs {
    /// What `demand` needs.
    #[must_use]
    pub fn of(demand: &Demand, measured: &Measured) -> Needs {
        let rate = demand.clusters * demand.per_minute / 60.0;
        let month = rate * 86_400.0 * DAYS;
        let kept = rate * 86_400.0 * demand.retention_days;
        let packing_cores = rate * demand.segment.cpu;
        // As much is deleted in a month as archived, one object at a time: R2, which cannot
        // list versions, is asked for them all the same, then HEAD, then DELETE; B2 lists the
        // versions, then DELETE (`shared/store/src/s3/versions.rs`).
        let cloud = |requests: &Requests, heads: f64| Month {
            bytes: kept * demand.segment.stored,
            puts: month * requests.puts,
            reads: month * (requests.reads + heads),
            lists: month * (requests.lists + 1.0),
        };
        Needs {
            segments_per_second: rate,
            packing_cores,
            workers: (packing_cores / (THREADS * BUSY)).ceil().max(1.0),
            catalog_cores: rate * measured.catalog_cpu,
            redis_cores: rate * measured.redis_cpu,
            redis_bytes: (demand.clusters * JOBS + DONE) * measured.job_bytes,
            catalog_kept: kept * measured.catalog_bytes,
            catalog_year: rate * 86_400.0 * 365.0 * measured.catalog_bytes,
            upload_bits_per_second: rate * demand.segment.stored * 8.0 * 2.0,
            r2: cloud(&measured.r2, 1.0),
            b2: cloud(&measured.b2, 0.0),
        }
    }

    /// The price of a month in R2 and in B2.
    #[must_use]
    pub fn price(&self) -> (f64, f64) {
        (prices::r2(&self.r2), prices::b2(&self.b2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(found: f64, awaited: f64) {
        let scale = awaited.abs().max(1.0);
        assert!(
            (found - awaited).abs() < 1e-9 * scale,
            "{found}, awaited {awaited}"
        );
    }

    #[test]
    fn a_thousand_clusters_need_what_was_worked_out_by_hand() {
        let segment = Segment {
            cpu: 0.1,
            stored: 1e6,
        };
        let one = Requests {
            puts: 1.0,
            reads: 1.0,
            lists: 0.0,
        };
        let measured = Measured {
            full: segment,
            light: segment,
            r2: one,
            b2: one,
            catalog_bytes: 1_000.0,
            catalog_cpu: 0.01,
            redis_cpu: 0.001,
            job_bytes: 500.0,
        };
        let demand = Demand {
            clusters: 1_000.0,
            per_minute: 6.0,
            segment,
            retention_days: 30.0,
        };
        let needs = Needs::of(&demand, &measured);
        check(needs.segments_per_second, 100.0);
        check(needs.packing_cores, 10.0);
        check(needs.workers, 10.0);
        check(needs.catalog_cores, 1.0);
        check(needs.redis_cores, 0.1);
        check(needs.redis_bytes, 17_000.0 * 500.0);
        check(needs.catalog_kept, 259.2e9);
        check(needs.catalog_year, 3_153.6e9);
        check(needs.upload_bits_per_second, 1.6e9);
        check(needs.r2.bytes, 259.2e12);
        check(needs.r2.puts, 259.2e6);
        check(needs.r2.reads, 2.0 * 259.2e6);
        check(needs.b2.reads, 259.2e6);
        check(needs.b2.lists, 259.2e6);
    }
}
