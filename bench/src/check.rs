//! Everything that was stored is fetched from the servers, past the fronts, unpacked, and
//! compared with its original; then it is removed, so that the next one finds the same room.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::corpus::{Corpus, Segment};
use walferry_tests::originals::gunzip;
use walferry_tests::{Bucket, Cloud};

/// How an object is unpacked.
pub type Unpack = fn(&[u8]) -> Result<Vec<u8>, String>;

/// Compares the objects of each cloud with the originals: `objects` names those of a bucket,
/// segment and key. The bytes in each cloud.
///
/// # Panics
/// When a segment is missing, is there twice, or is another.
pub fn check(
    corpus: &Corpus,
    clouds: &[Cloud],
    objects: impl Fn(&Bucket) -> Vec<(String, String)>,
    unpack: Unpack,
) -> Vec<u64> {
    let keys: Vec<BTreeMap<String, String>> = clouds
        .iter()
        .map(|cloud| {
            let listed = objects(cloud.bucket());
            let keys: BTreeMap<_, _> = listed.iter().cloned().collect();
            let wanted = corpus.segments().iter().map(|segment| &segment.name);
            assert!(
                keys.len() == listed.len() && keys.keys().eq(wanted),
                "{} holds other segments than were handed over: {:?}",
                cloud.name(),
                keys.keys()
            );
            keys
        })
        .collect();
    let buckets: Vec<&Bucket> = clouds.iter().map(Cloud::bucket).collect();
    compare(
        corpus.segments(),
        &buckets,
        |bucket, segment| keys[bucket][&segment.name].clone(),
        unpack,
        |bucket, key| bucket.delete(key),
    )
}

/// Fetches each segment from each bucket, where `key` (of the bucket's place and the segment)
/// names it, unpacks it and compares it with its original; then `seen` is told. The bytes that
/// each bucket holds of them.
///
/// # Panics
/// When one is missing, does not unpack, or is another.
pub fn compare(
    segments: &[Segment],
    buckets: &[&Bucket],
    key: impl Fn(usize, &Segment) -> String + Sync,
    unpack: Unpack,
    seen: impl Fn(&Bucket, &str) + Sync,
) -> Vec<u64> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut stored = vec![0; buckets.len()];
        while let Some(segment) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut right = None;
            for (place, bucket) in buckets.iter().enumerate() {
                let key = key(place, segment);
                let answer = bucket.get(&key);
                let body = answer.unwrap_or_else(|| panic!("{key} is missing")).body;
                // The same bytes as in the cloud before are right if those were.
                if right.as_ref() != Some(&body) {
                    let plain = unpack(&body).unwrap_or_else(|error| panic!("{key}: {error}"));
                    assert!(segment.is(&plain), "{key} is not {}", segment.name);
                }
                stored[place] += body.len() as u64;
                right = Some(body);
                seen(bucket, &key);
            }
        }
        stored
    };
    let sums = std::thread::scope(|scope| {
        [scope.spawn(work), scope.spawn(work)].map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    });
    (0..buckets.len())
        .map(|place| sums.iter().map(|sum| sum[place]).sum())
        .collect()
}

/// The objects `<prefix><segment>.gz`.
pub fn gz_below(prefix: &str) -> impl Fn(&Bucket) -> Vec<(String, String)> {
    let prefix = prefix.to_owned();
    move |bucket| {
        let segment = |key: String| {
            let name = key.strip_prefix(&prefix)?.strip_suffix(".gz")?;
            Some((name.to_owned(), key.clone()))
        };
        let keys = bucket.keys(&prefix);
        keys.into_iter().filter_map(segment).collect()
    }
}

/// Unpacks gzip.
///
/// # Errors
/// What is wrong with it.
pub fn gz(packed: &[u8]) -> Result<Vec<u8>, String> {
    gunzip(packed)
}

/// Unpacks zstd, with its own program.
///
/// # Errors
/// What the program says.
pub fn zst(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut zstd = Command::new("zstd")
        .args(["-dcq"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("start zstd: {error}"))?;
    let mut stdin = zstd.stdin.take().expect("it was asked for");
    let ended = std::thread::scope(|scope| {
        scope.spawn(move || {
            // It says itself what it missed.
            let _ = stdin.write_all(packed);
        });
        zstd.wait_with_output()
    })
    .map_err(|error| format!("run zstd: {error}"))?;
    if ended.status.success() {
        Ok(ended.stdout)
    } else {
        Err(String::from_utf8_lossy(&ended.stderr).into_owned())
    }
}
