//! What lies in the buckets: each object, its metadata, and what was there before.

use std::io::Write as _;

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Bucket, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_011,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

fn hand_over(world: &mut World, numbers: std::ops::Range<u64>) {
    for number in numbers {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
}

fn key(number: u64) -> String {
    format!("wal/{}.gz", MAKER.name(number))
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// A world whose prefix is its own already, so that objects can lie in it.
fn marked() -> World {
    let mut world = World::builder().quick_clouds().build();
    world.worker();
    hand_over(&mut world, 1..2);
    world.await_archived();
    world
}

#[test]
fn each_object_carries_what_a_rebuilt_catalog_needs() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.level", "6")
        .build();
    hand_over(&mut world, 1..2);
    let modified = std::fs::metadata(world.archive().join(MAKER.name(1)))
        .and_then(|facts| facts.modified())
        .expect("it lies there");
    world.worker();
    world.await_archived();
    let sha256 = &world
        .originals()
        .get(&MAKER.name(1))
        .expect("handed over")
        .sha256;
    for cloud in world.clouds() {
        let object = cloud.bucket().get(&key(1)).expect("archived");
        let meta = |name: &str| {
            object
                .header(&format!("x-amz-meta-wf-{name}"))
                .unwrap_or_else(|| panic!("{}: no wf-{name}", cloud.name()))
        };
        assert_eq!(&meta("sha256"), sha256);
        assert_eq!(meta("size"), (1 << 20).to_string());
        assert_eq!(meta("cluster"), "main");
        assert_eq!(meta("system-id"), MAKER.system_id.to_string());
        assert_eq!(meta("encoder"), "fitted");
        assert_eq!(meta("level"), "6");
        let intake = chrono::DateTime::<chrono::Utc>::from(modified);
        assert_eq!(meta("mtime"), intake.timestamp_millis().to_string());
        // RFC 1952: deflate, no name and no other field, no time.
        assert_eq!(&object.body[..8], &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn an_object_of_the_same_segment_packed_by_another_encoder_is_adopted_as_it_is() {
    let mut world = marked();
    let theirs = gzip(&MAKER.bytes(2, Fill::Light), 1);
    for cloud in world.clouds() {
        cloud.bucket().put(&key(2), &theirs);
    }
    hand_over(&mut world, 2..3);
    world.await_archived();
    for cloud in world.clouds() {
        let object = cloud.bucket().get(&key(2)).expect("it is still there");
        assert!(object.body == theirs, "{}: overwritten", cloud.name());
        assert_eq!(cloud.proxy().writes().get(&key(2)), None);
    }
    let sizes = format!(
        "SELECT size_bytes FROM backups WHERE filename = '{}.gz'",
        MAKER.name(2)
    );
    assert_eq!(world.rows(&sizes), [[Some(theirs.len().to_string())]]);
}

#[test]
fn an_object_of_other_content_is_never_overwritten_and_is_critical() {
    let mut world = marked();
    let theirs = gzip(&MAKER.seed(9).bytes(2, Fill::Light), 9);
    world.cloud("b2").bucket().put(&key(2), &theirs);
    hand_over(&mut world, 2..3);
    eventually("check is critical and names the object", || {
        let check = world.cli(&["--json", "check"]).json();
        let findings = check["findings"].as_array().cloned().unwrap_or_default();
        let named = findings.iter().any(|finding| {
            finding["level"] == "critical"
                && finding["message"]
                    .as_str()
                    .is_some_and(|message| message.contains(&key(2)))
        });
        wait::is(named, check)
    });
    let object = world
        .cloud("b2")
        .bucket()
        .get(&key(2))
        .expect("still there");
    assert!(object.body == theirs, "overwritten");
    assert_eq!(world.cloud("b2").proxy().writes().get(&key(2)), None);
    assert!(world.archived_files().contains(&MAKER.name(2)));
    let backup = world.backups()[&MAKER.name(2)].clone();
    assert_ne!(backup.status, "VERIFIED");
    assert!(backup.r2_path.is_some(), "the other cloud has it");
}

#[test]
fn no_transaction_is_held_during_an_upload() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    world.worker();
    hand_over(&mut world, 1..3);
    gate.await_waiting(2);
    assert_eq!(
        world.number("SELECT count(*) FROM wal_files WHERE claimed_by IS NOT NULL"),
        2,
        "both are claimed"
    );
    // A transaction of a claim would be idle in it now; renewals are over in no time.
    assert_eq!(
        world.number(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'walferry%' \
             AND state LIKE 'idle in transaction%'"
        ),
        0
    );
    gate.open();
    world.await_archived();
}

#[test]
fn one_repository_is_enough_where_one_is_configured() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("repositories", "r2")
        .build();
    world.worker();
    hand_over(&mut world, 1..4);
    world.await_verified_within(std::time::Duration::from_secs(30));
    assert_eq!(world.cloud("r2").bucket().keys("wal/0").len(), 3);
    assert!(world.cloud("b2").bucket().keys("").is_empty());
}

#[test]
fn three_repositories_hold_a_copy_each_before_a_segment_is_verified() {
    let mut world = World::builder().quick_clouds().build();
    let third: Bucket = world.cloud("b2").bucket().sibling("third");
    third.create().expect("a bucket");
    let (endpoint, keys) = {
        let cloud = world.cloud("b2");
        (cloud.endpoint(), cloud.credentials().clone())
    };
    for (name, value) in [
        ("repositories", "r2,b2,minio"),
        ("repositories.minio.endpoint", endpoint.as_str()),
        ("repositories.minio.bucket", "third"),
        ("repositories.minio.region", keys.region.as_str()),
        ("repositories.minio.access_key_id", keys.id.as_str()),
        ("repositories.minio.secret_access_key", keys.secret.as_str()),
    ] {
        world.set(name, value);
    }
    world.worker();
    hand_over(&mut world, 1..4);
    world.await_archived();
    world
        .originals()
        .compare(&third, "wal/")
        .expect("the third repository has them too");
    assert_eq!(
        world.number("SELECT count(*) FROM copies WHERE state = 'verified'"),
        9
    );
}
