//! A directory full of segments, drained by real workers, and the proof that it was.

use std::collections::BTreeSet;
use std::path::Path;

use walferry_tests::world::Program;
use walferry_tests::{Bucket, World};

use crate::check;
use crate::corpus::Segment;

/// Links the originals into the archive directory: they take no space, and the worker deletes
/// its link only.
///
/// # Panics
/// When a link cannot be made: the originals have to lie on the same file system.
pub fn fill(world: &World, segments: &[Segment]) {
    let archive = world.archive();
    for segment in segments {
        std::fs::hard_link(&segment.path, archive.join(&segment.name))
            .unwrap_or_else(|error| panic!("link {}: {error}", segment.name));
    }
}

/// How many of them the directory still holds.
///
/// # Panics
/// When the directory cannot be listed.
#[must_use]
pub fn left(archive: &Path) -> usize {
    std::fs::read_dir(archive)
        .unwrap_or_else(|error| panic!("list {}: {error}", archive.display()))
        .flatten()
        // 24 hex digits; what a worker puts there for a moment has a longer name.
        .filter(|entry| entry.file_name().len() == 24)
        .count()
}

/// Proves that everything was archived: each segment VERIFIED in the catalog, gone from the
/// directory, and in each cloud once and byte for byte. The bytes that each cloud holds.
///
/// # Panics
/// When any of that is not so.
pub fn prove(world: &World, segments: &[Segment]) -> Vec<u64> {
    let verified = world.number("SELECT count(*) FROM wal_files WHERE status = 'VERIFIED'");
    let all = world.number("SELECT count(*) FROM wal_files");
    let wanted = i64::try_from(segments.len()).expect("a few thousand");
    assert_eq!((verified, all), (wanted, wanted), "VERIFIED, and all files");
    assert_eq!(left(&world.archive()), 0, "files left in the directory");
    let buckets: Vec<&Bucket> = world.clouds().iter().map(|cloud| cloud.bucket()).collect();
    for bucket in &buckets {
        assert_eq!(names(bucket).len(), segments.len(), "{}", bucket.name());
    }
    compare(segments, &buckets)
}

/// The segments that a bucket has an object of.
#[must_use]
pub fn names(bucket: &Bucket) -> BTreeSet<String> {
    let segment = |key: String| Some(key.strip_prefix("wal/")?.strip_suffix(".gz")?.to_owned());
    bucket
        .keys("wal/")
        .into_iter()
        .filter_map(segment)
        .collect()
}

/// Fetches each segment from each bucket, unpacks it and compares it with its original. The
/// bytes that each bucket holds of them.
///
/// # Panics
/// When one is missing, does not unpack, or is another.
pub fn compare(segments: &[Segment], buckets: &[&Bucket]) -> Vec<u64> {
    check::compare(
        segments,
        buckets,
        |_, segment| format!("wal/{}.gz", segment.name),
        check::gz,
        |_, _| {},
    )
}

/// The sum of a metric over its series that hold `labels`, and over workers.
///
/// # Panics
/// When a worker does not answer.
#[must_use]
pub fn metric(workers: &[Program], name: &str, labels: &[&str]) -> f64 {
    workers
        .iter()
        .map(|worker| {
            let (status, body) = worker
                .http("/metrics")
                .unwrap_or_else(|error| panic!("{}: {error}", worker.name()));
            assert_eq!(status, 200, "{body}");
            body.lines()
                .filter_map(|line| {
                    let (series, value) = line.rsplit_once(' ')?;
                    let (metric, rest) = series.split_once('{').unwrap_or((series, ""));
                    let wanted = metric == name && labels.iter().all(|label| rest.contains(label));
                    wanted.then(|| value.parse::<f64>().ok())?
                })
                .sum::<f64>()
        })
        .sum()
}

/// Asks workers to end, and waits until they did.
///
/// # Panics
/// When one does not end, or ends badly.
pub fn end(workers: &[Program]) {
    for worker in workers {
        worker.terminate();
    }
    for worker in workers {
        let status = worker.wait();
        assert!(status.success(), "{status}:\n{}", worker.log());
    }
}
