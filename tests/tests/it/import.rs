//! Moving over from the old system: its objects are in the prefix, without our metadata and
//! without an owner mark.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, SystemTime};

use chrono::Utc;
use flate2::{Compression, write::GzEncoder};
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Cloud, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_022,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};
const AGE: Duration = Duration::from_secs(20 * 24 * 3600);

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

fn key(number: u64) -> String {
    format!("wal/{}.gz", MAKER.name(number))
}

const HISTORY: &str = "00000002.history";

/// The label of a base backup within segment 2, by its file's name.
fn label() -> (String, String) {
    let segment = MAKER.name(2);
    let text = format!(
        "START WAL LOCATION: 0/200028 (file {segment})\nSTOP WAL LOCATION: 0/200100 (file {segment})\n\
         CHECKPOINT LOCATION: 0/200060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
         START TIME: 2026-01-01 00:00:00 UTC\nLABEL: nightly\nSTART TIMELINE: 1\n\
         STOP TIME: 2026-01-01 00:01:00 UTC\nSTOP TIMELINE: 1\n"
    );
    (format!("{segment}.00000028.backup"), text)
}

/// What the old system left in both clouds: segments 1 to 3, a history file, a backup label,
/// and three objects that are not what their names say. All of it is 20 days old.
fn world_of_the_old_system() -> World {
    let world = World::builder()
        .quick_clouds()
        .setting("archive.retry_base", "200ms")
        .setting("archive.retry_max", "1s")
        .build();
    for cloud in world.clouds() {
        let bucket = cloud.bucket();
        for number in 1..4 {
            bucket.put(&key(number), &gzip(&MAKER.bytes(number, Fill::Light)));
        }
        let history = b"1\t0/500000\tno recovery target specified\n";
        bucket.put(&format!("wal/{HISTORY}.gz"), &gzip(history));
        let (label, text) = label();
        bucket.put(&format!("wal/{label}.gz"), &gzip(text.as_bytes()));
        let whole = gzip(&MAKER.bytes(4, Fill::Light));
        bucket.put(&key(4), &whole[..whole.len() / 2]);
        bucket.put(&key(5), &gzip(&MAKER.bytes(6, Fill::Light)));
        bucket.put("wal/README.txt", b"old system");
        for key in bucket.keys("wal/") {
            let data = world.folder().join(cloud.name()).join("data");
            let file = std::fs::File::options()
                .write(true)
                .open(data.join(bucket.name()).join(key))
                .expect("the embedded server keeps objects as files");
            file.set_modified(SystemTime::now() - AGE)
                .expect("set a time");
        }
    }
    world
}

fn contents(cloud: &Cloud) -> BTreeMap<String, Vec<u8>> {
    let bucket = cloud.bucket();
    let keys = bucket.keys("wal/").into_iter();
    keys.map(|key| {
        let body = bucket.get(&key).expect("listed").body.to_vec();
        (key, body)
    })
    .collect()
}

#[test]
fn a_prefix_of_the_old_system_is_not_written_to_until_it_was_imported() {
    let mut world = world_of_the_old_system();
    let before: Vec<_> = world.clouds().iter().map(contents).collect();
    let unchanged = |world: &World| {
        for (cloud, before) in world.clouds().iter().zip(&before) {
            assert!(contents(cloud) == *before, "{} was changed", cloud.name());
        }
    };
    let worker = world.worker();
    world.hand_over(&MAKER.name(7), &MAKER.bytes(7, Fill::Light));
    eventually("both clouds refuse the segment for want of a mark", || {
        let rows = world.rows("SELECT repository, cause, last_error FROM copies");
        let refused = rows
            .iter()
            .filter(|row| row[1].as_deref() == Some("not-imported"));
        wait::is(refused.count() == 2, rows)
    });
    unchanged(&world);

    let dry = world.cli(&["--json", "import", "--dry-run"]);
    assert_eq!(dry.code, 1, "objects would be left: {dry:?}");
    let dry = dry.json();
    assert_eq!(dry["dry_run"], true);
    assert_eq!(dry["adopted"], 5, "{dry}");
    assert_eq!(dry["left"].as_array().map(Vec::len), Some(6), "{dry}");
    unchanged(&world);
    let known: Vec<String> = world.backups().into_keys().collect();
    assert_eq!(known, [MAKER.name(7)]);

    let done = world.cli(&["--json", "import"]);
    assert_eq!(done.code, 1, "objects were left: {done:?}");
    let done = done.json();
    assert_eq!(done["adopted"], 5, "{done}");
    assert_eq!(done["system_id"], MAKER.system_id.to_string(), "{done}");
    for cloud in world.clouds() {
        for left in [key(4), key(5), "wal/README.txt".to_owned()] {
            let named = done["left"].as_array().is_some_and(|list| {
                list.iter()
                    .any(|entry| entry["key"] == left && entry["repository"] == cloud.name())
            });
            assert!(named, "{left} of {} is listed: {done}", cloud.name());
        }
    }

    // From here on the old segments count, and new ones go on behind them.
    for number in 1..4 {
        let bytes = MAKER.bytes(number, Fill::Light);
        world.originals_mut().remember(&MAKER.name(number), &bytes);
    }
    world.await_verified_within(Duration::from_secs(60));
    check_adopted(&world);
    for (cloud, before) in world.clouds().iter().zip(&before) {
        let after = contents(cloud);
        for (key, body) in before {
            assert!(after.get(key) == Some(body), "{key} in {}", cloud.name());
        }
        assert!(after.contains_key(&key(7)), "{}", cloud.name());
    }
    let known: Vec<String> = world.backups().into_keys().collect();
    let mut wanted: Vec<String> = [1, 2, 3, 7].map(|number| MAKER.name(number)).into();
    wanted.extend([HISTORY.to_owned(), label().0]);
    wanted.sort();
    assert_eq!(known, wanted, "what was left is not cataloged");
    // A second run changes nothing.
    assert_eq!(world.cli(&["--json", "import"]).code, 1);
    assert_eq!(world.backups().len(), 6);
    // What was left is known to a person now: retention acts all the same.
    worker.terminate();
    worker.wait();
    world.cli(&["retention", "apply"]).ok();
}

/// Adopted files have the hash of their content and the age of their objects.
fn check_adopted(world: &World) {
    let backups = world.backups();
    for number in 1..4 {
        let name = MAKER.name(number);
        let original = world.originals().get(&name).expect("remembered");
        let backup = &backups[&name];
        assert_eq!(backup.checksum.as_deref(), Some(original.sha256.as_str()));
        assert_eq!(backup.r2_path, Some(key(number)));
        assert_eq!(backup.b2_path, Some(key(number)));
        assert_eq!(backup.local_path, "");
        for column in ["mtime", "verified_at"] {
            let time = world.number(&format!(
                "SELECT floor(extract(epoch FROM {column}))::bigint FROM wal_files WHERE name = '{name}'"
            ));
            let age = Utc::now().timestamp() - time;
            let wanted = i64::try_from(AGE.as_secs()).expect("days");
            assert!(
                (wanted..wanted + 600).contains(&age),
                "{column}: {age} s old"
            );
        }
    }
    // What orders timelines and what is kept for a base backup are known, too.
    let histories = world.rows("SELECT timeline::text FROM histories");
    assert_eq!(histories, [[Some("2".to_owned())]]);
    let labels = world.rows("SELECT start_segment, label FROM labels");
    let nightly = [Some(MAKER.name(2)), Some("nightly".to_owned())];
    assert_eq!(labels, [nightly]);
}

#[test]
fn an_empty_prefix_needs_no_import() {
    let mut world = World::builder().quick_clouds().build();
    let import = world.cli(&["--json", "import"]).ok();
    assert!(import.contains("\"objects\": 0"), "{import}");
    world.worker();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.await_archived();
}
