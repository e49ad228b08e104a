//! A missing copy is made from the other cloud's, when that one is what it should be.

use std::io::Write as _;
use std::time::Duration;

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Cloud, Fault, World, WorldBuilder, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_031,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};
/// Above the threshold of [`streaming`], and random: its object is as large.
const LARGE: Maker = Maker {
    segment_size: 16 << 20,
    ..MAKER
};

fn quick() -> WorldBuilder {
    World::builder()
        .quick_clouds()
        .setting("archive.retry_base", "200ms")
        .setting("archive.retry_max", "1s")
}

fn streaming(builder: WorldBuilder) -> WorldBuilder {
    builder.setting("archive.streaming_threshold", "8MiB")
}

/// The local file goes with its first verified copy: any file system is fuller than this.
fn without_local_file(builder: WorldBuilder) -> WorldBuilder {
    builder.setting("archive.delete_after_one_copy_above", "0.0001%")
}

fn key(maker: &Maker) -> String {
    format!("wal/{}.gz", maker.name(1))
}

/// Segment 1 is verified in r2, and b2 is down.
fn only_in_r2(builder: WorldBuilder, maker: &Maker, fill: Fill) -> World {
    let mut world = builder.build();
    world.cloud("b2").proxy().fault(Fault::Refuse);
    world.hand_over(&maker.name(1), &maker.bytes(1, fill));
    world.worker();
    eventually("r2 holds it", || {
        let rows = world.number("SELECT count(*) FROM backups WHERE r2_path IS NOT NULL");
        wait::is(rows == 1, rows)
    });
    world
}

/// A bit is flipped, as by rot in the cloud.
fn flipped(object: &[u8]) -> Vec<u8> {
    let mut damaged = object.to_vec();
    damaged[object.len() / 2] ^= 1;
    damaged
}

/// The same with a checksum that fits again: a gzip file of the same length in perfect order,
/// and of another content. Works with what does not pack, which is stored as it is.
fn falsified(object: &[u8]) -> Vec<u8> {
    let mut damaged = flipped(object);
    let trailer = damaged.len() - 8;
    let mut plain =
        flate2::CrcReader::new(flate2::read::DeflateDecoder::new(&damaged[10..trailer]));
    std::io::copy(&mut plain, &mut std::io::sink()).expect("stored as it is");
    let sum = plain.crc().sum();
    damaged[trailer..][..4].copy_from_slice(&sum.to_le_bytes());
    damaged
}

type Damage = fn(&[u8]) -> Vec<u8>;

/// Puts a damaged object in place of one, which is returned.
fn damage(cloud: &Cloud, key: &str, damage: Damage) -> Vec<u8> {
    let object = cloud.bucket().get(key).expect("it is there").body.to_vec();
    cloud.bucket().put(key, &damage(&object));
    object
}

/// `x-amz-meta-wf-*` of an object.
fn metadata(cloud: &Cloud, key: &str) -> Vec<(&'static str, Option<String>)> {
    let object = cloud.bucket().head(key).expect("it is there");
    [
        "sha256",
        "size",
        "cluster",
        "system-id",
        "encoder",
        "level",
        "mtime",
    ]
    .map(|name| (name, object.header(&format!("x-amz-meta-wf-{name}"))))
    .to_vec()
}

/// Whether `check` has a critical finding of this code that names `words`.
fn check_names(world: &World, code: &str, words: &[&str]) -> Result<(), serde_json::Value> {
    let check = world.cli(&["--json", "check"]).json();
    let findings = check["findings"].as_array().cloned().unwrap_or_default();
    let named = findings.iter().any(|finding| {
        let message = finding["message"].as_str().unwrap_or_default();
        finding["level"] == "critical"
            && (finding["code"] == code || finding["what"] == code)
            && words.iter().all(|word| message.contains(word))
    });
    wait::is(named, check)
}

#[test]
fn a_damaged_copy_is_replaced_from_the_local_file_and_told() {
    let world = only_in_r2(quick(), &MAKER, Fill::Light);
    let key = key(&MAKER);
    damage(world.cloud("r2"), &key, flipped);
    world.cloud("b2").proxy().pass();
    eventually("b2 has it all the same", || {
        let backup = world.backups()[&MAKER.name(1)].clone();
        wait::is(backup.b2_path.is_some() && backup.r2_path.is_none(), backup)
    });
    world
        .originals()
        .compare(world.cloud("b2").bucket(), "wal/")
        .expect("what b2 got came from the local file");
    eventually("check says that r2's copy is damaged", || {
        check_names(&world, "damaged-copy", &["`r2`", &key])
    });
    // What lies there is never overwritten, and the local file stays until it is replaced.
    eventually("r2's object is in the way", || {
        check_names(&world, "other-content", &["`r2`", &key])
    });
    assert!(world.archived_files().contains(&MAKER.name(1)));
    assert_ne!(world.backups()[&MAKER.name(1)].status, "VERIFIED");
    world.cloud("r2").bucket().delete(&key);
    world.await_archived();
}

#[test]
fn a_copy_that_somebody_deleted_is_made_again() {
    let world = only_in_r2(quick(), &MAKER, Fill::Light);
    world.cloud("r2").bucket().delete(&key(&MAKER));
    world.cloud("b2").proxy().pass();
    world.await_archived();
    check_names(&world, "damaged-copy", &["`r2`", "is not there"]).expect("it is told");
}

/// Without the local file the damaged copy is all there is: it is told and not handed on.
fn check_not_handed_on(builder: WorldBuilder, maker: &Maker, how: Damage) {
    let world = only_in_r2(without_local_file(builder), maker, Fill::Random);
    eventually("the local file is deleted", || {
        let left = world.archived_files();
        wait::is(left.is_empty(), left)
    });
    let (r2, b2) = (world.cloud("r2"), world.cloud("b2"));
    let key = key(maker);
    let before = metadata(r2, &key);
    let object = damage(r2, &key, how);
    b2.proxy().pass();
    eventually("check names r2 as the cause", || {
        check_names(&world, "cloud-behind", &["`r2`", &key])
    });
    assert_eq!(
        world.rows("SELECT cause FROM copies WHERE repository = 'b2'"),
        [[Some("copy-damaged".to_owned())]]
    );
    assert!(b2.bucket().head(&key).is_none(), "it was handed on");
    assert!(
        world.backups()[&maker.name(1)].r2_path.is_some(),
        "what is left is not given up"
    );
    let headers: Vec<(String, String)> = before
        .into_iter()
        .filter_map(|(name, value)| Some((format!("wf-{name}"), value?)))
        .collect();
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    r2.bucket().put_with(&key, &object, &headers);
    world.await_archived();
    assert_eq!(metadata(r2, &key), metadata(b2, &key));
}

#[test]
fn a_copy_of_other_content_is_not_handed_on() {
    check_not_handed_on(quick(), &MAKER, falsified);
}

#[test]
fn a_damaged_copy_is_not_handed_on_in_parts() {
    check_not_handed_on(streaming(quick()), &LARGE, flipped);
}

#[test]
fn a_copy_of_other_content_is_not_handed_on_in_parts() {
    check_not_handed_on(streaming(quick()), &LARGE, falsified);
}

#[test]
fn a_healed_object_says_of_itself_what_the_first_one_does() {
    let world = only_in_r2(quick(), &MAKER, Fill::Light);
    world.cloud("b2").proxy().pass();
    world.await_archived();
    let first = metadata(world.cloud("r2"), &key(&MAKER));
    assert!(first.iter().all(|(_, value)| value.is_some()), "{first:?}");
    assert_eq!(metadata(world.cloud("b2"), &key(&MAKER)), first);
}

#[test]
fn healing_in_parts_overwrites_nothing_either() {
    let world = only_in_r2(streaming(quick()), &LARGE, Fill::Random);
    let (b2, key) = (world.cloud("b2"), key(&LARGE));
    // The prefix is ours already, and somebody put an object of his own into it.
    let mark = world.cloud("r2").bucket().get("wal/walferry-owner.json");
    b2.bucket()
        .put("wal/walferry-owner.json", &mark.expect("r2 is marked").body);
    b2.bucket().put(&key, b"not yours");
    b2.proxy().pass();
    eventually("the object is in the way", || {
        check_names(&world, "other-content", &["`b2`", &key])
    });
    let object = b2.bucket().get(&key).expect("still there");
    assert_eq!(&object.body[..], b"not yours");
    b2.bucket().delete(&key);
    world.await_archived();
}

#[test]
fn an_object_of_the_old_system_in_one_cloud_only_is_healed_into_the_other() {
    let mut world = quick().build();
    let plain = MAKER.bytes(1, Fill::Light);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("memory takes it");
    let object = gzip.finish().expect("memory takes it");
    // b2 holds only what came later.
    world.cloud("r2").bucket().put(&key(&MAKER), &object);
    let later = MAKER.bytes(2, Fill::Light);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&later).expect("memory takes it");
    let second = gzip.finish().expect("memory takes it");
    for cloud in world.clouds() {
        let key = format!("wal/{}.gz", MAKER.name(2));
        cloud.bucket().put(&key, &second);
    }
    world.cli(&["import"]).ok();
    world.originals_mut().remember(&MAKER.name(1), &plain);
    world.originals_mut().remember(&MAKER.name(2), &later);
    world.worker();
    world.await_verified_within(Duration::from_secs(60));
    world.compare_clouds();
    let healed = world
        .cloud("b2")
        .bucket()
        .get(&key(&MAKER))
        .expect("healed");
    assert!(healed.body == object, "cataloged and copied as it is");
    let meta = |name: &str| healed.header(&format!("x-amz-meta-wf-{name}"));
    let sha256 = &world.originals().get(&MAKER.name(1)).expect("known").sha256;
    assert_eq!(meta("sha256").as_ref(), Some(sha256));
    assert_eq!(meta("size"), Some(plain.len().to_string()));
    assert_eq!(meta("system-id"), Some(MAKER.system_id.to_string()));
    assert_eq!(meta("encoder"), Some("unknown".to_owned()));
}

#[test]
fn a_cloud_that_is_down_is_asked_seldom_however_many_copies_are_due() {
    let mut world = quick().build();
    world.cloud("b2").proxy().fault(Fault::Status(503));
    for number in 1..=30 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Empty));
    }
    world.worker();
    eventually("r2 holds everything", || {
        let rows = world.number("SELECT count(*) FROM backups WHERE r2_path IS NOT NULL");
        wait::is(rows == 30, rows)
    });
    let b2 = world.cloud("b2").proxy();
    let before = b2.records().len();
    // Each copy is due every second at the latest: without a breaker it would be asked for
    // each of them again and again.
    wait::throughout(Duration::from_secs(6), "b2 is spared", || {
        let asked = b2.records().len() - before;
        wait::is(asked < 30, asked)
    });
    b2.pass();
    world.await_archived();
}
