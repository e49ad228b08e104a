//! What must hold at every moment, seen from outside: in the buckets, the directory, the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest, Sha256};
use walferry_tests::World;
use walferry_tests::originals::gunzip;

/// What a cell allows beyond the rule.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed {
    /// Verified copies that are enough for a local file to go; 0 for all.
    pub(crate) copies: usize,
    /// An object proven damaged, deleted or changed behind our back may be written again.
    pub(crate) rewritten: bool,
    /// An object under a segment's key may be somebody else's or damaged: the fault put it there.
    pub(crate) foreign: bool,
}

/// Fails if one of these does not hold:
///
/// 1. What PostgreSQL was told is archived lies in the directory, or in every cloud.
/// 2. Each object under a segment's key unpacks to that segment, and was written once.
/// 3. VERIFIED in the catalog means that every cloud holds it with that hash.
#[track_caller]
pub(crate) fn hold(world: &World, allowed: Allowed) {
    // Twice at most: a file may leave the directory between our two looks, when its copies are
    // complete.
    let wrong = look(world, allowed);
    let wrong = if wrong.is_empty() {
        wrong
    } else {
        look(world, allowed)
    };
    assert!(wrong.is_empty(), "invariants: {wrong:#?}");
}

fn look(world: &World, allowed: Allowed) -> Vec<String> {
    let mut wrong = Vec::new();
    // The catalog first, then what it speaks of: what is VERIFIED now has its objects now.
    let verified = verified(world);
    let mut local = BTreeSet::new();
    hashes(&world.archive(), &mut local);
    // A disk that a cell took away holds what it held.
    hashes(&world.folder().join("disk"), &mut local);
    let objects: Vec<_> = world
        .clouds()
        .iter()
        .map(|cloud| (cloud, held(world, cloud)))
        .collect();
    for name in world.originals().names() {
        let Some(original) = world.originals().get(&name) else {
            continue;
        };
        let mut copies = 0;
        for (cloud, held) in &objects {
            match held.get(&name) {
                Some(Ok(sha256)) if *sha256 == original.sha256 => copies += 1,
                Some(found) if !allowed.foreign => {
                    wrong.push(format!(
                        "2: {name} in {} is another: {found:?}",
                        cloud.name()
                    ));
                }
                _ => {}
            }
        }
        let enough = if allowed.copies == 0 {
            objects.len()
        } else {
            allowed.copies
        };
        if !local.contains(&original.sha256) && copies < enough {
            wrong.push(format!(
                "1: {name} is not in the directory and in {copies} clouds"
            ));
        }
        if let Some(recorded) = verified.get(&name)
            && !allowed.foreign
            && (copies < objects.len() || *recorded != original.sha256)
        {
            wrong.push(format!(
                "3: {name} is VERIFIED with {recorded} and in {copies} clouds"
            ));
        }
    }
    if !allowed.rewritten {
        for (cloud, _) in &objects {
            for (key, times) in cloud.proxy().writes() {
                let mark = key.contains("/walferry-");
                if times > 1 && !mark {
                    wrong.push(format!(
                        "2: {key} was written {times} times to {}",
                        cloud.name()
                    ));
                }
            }
        }
    }
    wrong
}

/// Fails if a segment was archived twice: then two claims of it were alive at once.
#[track_caller]
pub(crate) fn archived_once(logs: &[String]) {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for line in logs.iter().flat_map(|log| log.lines()) {
        if let Some(rest) = line.split(": archived cluster.name=").nth(1)
            && let Some(name) = rest.split("segment.name=").nth(1)
        {
            *times
                .entry(name.split(' ').next().unwrap_or(name))
                .or_default() += 1;
        }
    }
    times.retain(|_, times| *times > 1);
    assert!(
        times.is_empty(),
        "invariant 4: archived more than once: {times:?}"
    );
}

/// Names and hashes that the catalog calls VERIFIED; nothing while it does not answer.
fn verified(world: &World) -> BTreeMap<String, String> {
    let rows = world.catalog().try_query_in(
        "walferry",
        "SELECT filename, checksum FROM backups WHERE status = 'VERIFIED'",
    );
    rows.unwrap_or_default()
        .into_iter()
        .filter_map(|row| {
            let [name, checksum] = <[Option<String>; 2]>::try_from(row).ok()?;
            Some((name?.trim_end_matches(".gz").to_owned(), checksum?))
        })
        .collect()
}

/// What a bucket holds of what was handed over, unpacked: hash by name, past the proxy.
fn held(world: &World, cloud: &walferry_tests::Cloud) -> BTreeMap<String, Result<String, String>> {
    let names: BTreeSet<String> = world.originals().names().into_iter().collect();
    let keys = cloud.bucket().keys("wal/");
    keys.into_iter()
        .filter_map(|key| {
            let name = key.strip_prefix("wal/")?.strip_suffix(".gz")?.to_owned();
            names.contains(&name).then_some(())?;
            let object = cloud.bucket().get(&key)?;
            Some((name, gunzip(&object.body).map(|plain| sha256(&plain))))
        })
        .collect()
}

/// Hashes of all files in the directory: under their names, put aside, in the quarantine.
fn hashes(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            hashes(&entry.path(), found);
        } else if kind.is_file()
            && let Ok(bytes) = std::fs::read(entry.path())
        {
            found.insert(sha256(&bytes));
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
