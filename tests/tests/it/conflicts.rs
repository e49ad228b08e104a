//! Another content under our key: a person is told, nothing is overwritten, and archiving
//! goes on by itself when it is moved away.

use std::io::Write as _;

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_032,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

fn key(number: u64) -> String {
    format!("wal/{}.gz", MAKER.name(number))
}

/// Our prefix, in which somebody put an object of his own under the key of segment 2 in b2.
fn world_with_a_foreign_object() -> (World, Vec<u8>) {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.retry_base", "200ms")
        .setting("archive.retry_max", "500ms")
        .build();
    world.worker();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.await_archived();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&MAKER.seed(9).bytes(2, Fill::Light))
        .expect("memory takes it");
    let theirs = gzip.finish().expect("memory takes it");
    world.cloud("b2").bucket().put(&key(2), &theirs);
    world.hand_over(&MAKER.name(2), &MAKER.bytes(2, Fill::Light));
    (world, theirs)
}

fn await_listed(world: &World) {
    eventually(
        "the object is quarantined, by its key and repository",
        || {
            let listed = world.cli(&["--json", "quarantine", "ls"]).json();
            let found = listed.as_array().is_some_and(|list| {
                list.iter().any(|one| {
                    one["name"] == key(2).as_str()
                        && one["repository"] == "b2"
                        && one["directory"].is_null()
                        && one["code"] == "other-content"
                        && one["critical"] == true
                })
            });
            wait::is(found, listed)
        },
    );
}

#[test]
fn an_object_of_other_content_is_quarantined_until_it_is_moved_away() {
    let (world, theirs) = world_with_a_foreign_object();
    await_listed(&world);
    let check = world.cli(&["--json", "check"]).json();
    let findings = check["findings"].as_array().cloned().unwrap_or_default();
    let named = findings.iter().any(|finding| {
        let message = finding["message"].as_str().unwrap_or_default();
        finding["level"] == "critical"
            && finding["code"] == "other-content"
            && message.contains(&key(2))
            && message.contains("`b2`")
    });
    assert!(named, "{check}");
    let text = world.cli(&["quarantine", "ls"]).ok();
    assert!(text.contains(&key(2)) && text.contains("b2"), "{text}");

    let b2 = world.cloud("b2");
    let object = b2.bucket().get(&key(2)).expect("still there");
    assert!(object.body == theirs, "overwritten");
    b2.bucket().delete(&key(2));
    world.await_archived();
    assert_eq!(
        world.cli(&["--json", "quarantine", "ls"]).json(),
        serde_json::json!([])
    );
}

#[test]
fn an_object_that_stays_in_the_way_is_neither_read_nor_sent_to_again() {
    let (world, _) = world_with_a_foreign_object();
    await_listed(&world);
    let proxy = world.cloud("b2").proxy();
    let count = |method| proxy.count(method, &key(2));
    let (reads, writes, looks) = (count("GET"), count("PUT"), count("HEAD"));
    assert!(reads > 0, "it was read once, or nobody knew what it is");
    eventually("it is looked at again and again", || {
        wait::is(count("HEAD") >= looks + 3, count("HEAD"))
    });
    assert_eq!((count("GET"), count("PUT")), (reads, writes));
    world.cloud("b2").bucket().delete(&key(2));
    world.await_archived();
}
