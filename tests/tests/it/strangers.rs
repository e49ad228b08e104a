//! `import` asks first whose a prefix is: a stranger's archive is neither adopted nor marked.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Cloud, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_032,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};
const STRANGER: Maker = Maker {
    system_id: 7_300_000_000_000_000_033,
    seed: 1,
    ..MAKER
};
const OWNER: &str = "wal/walferry-owner.json";

fn quick_world() -> World {
    World::builder()
        .quick_clouds()
        .setting("archive.retry_base", "200ms")
        .setting("archive.retry_max", "1s")
        .build()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

fn key(number: u64) -> String {
    format!("wal/{}.gz", MAKER.name(number))
}

fn contents(world: &World) -> Vec<BTreeMap<String, Vec<u8>>> {
    let of = |cloud: &Cloud| {
        let keys = cloud.bucket().keys("").into_iter();
        keys.map(|key| {
            let body = cloud.bucket().get(&key).expect("listed").body.to_vec();
            (key, body)
        })
        .collect()
    };
    world.clouds().iter().map(of).collect()
}

/// The refusal's words; nothing was adopted and nothing changed.
fn check_refused(world: &World, database: &str, arguments: &[&str], words: &[&str]) {
    let before = contents(world);
    let rows = "SELECT name FROM wal_files ORDER BY name";
    let known = world.catalog().query_in(database, rows);
    for dry in [&["--dry-run"][..], &[]] {
        let import = world.cli(&[&["import"], arguments, dry].concat());
        assert_eq!(import.code, 1, "{import:?}");
        for word in words.iter().chain(&["HINT:"]) {
            assert!(import.stderr.contains(word), "{word}: {import:?}");
        }
    }
    assert_eq!(world.catalog().query_in(database, rows), known);
    assert!(contents(world) == before, "a bucket was changed");
}

#[test]
fn a_marked_prefix_is_adopted_by_a_new_catalog_only_if_a_person_says_whose_it_is() {
    let mut world = quick_world();
    for number in 1..3 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    let owner = world.worker();
    world.await_archived();
    owner.terminate();
    owner.wait();

    // A catalog that knows of no system yet: a stranger's, or the owner's after a loss.
    world.catalog().execute("CREATE DATABASE fresh");
    world.set_variable("DATABASE_URL", &world.catalog().url("fresh"));
    world.cli(&["catalog", "migrate"]).ok();
    let (ours, strangers) = (MAKER.system_id.to_string(), STRANGER.system_id.to_string());
    check_refused(&world, "fresh", &[], &["--system-id", &ours]);
    let as_stranger = ["--system-id", &strangers];
    check_refused(&world, "fresh", &as_stranger, &[&ours, &strangers]);

    let rebuilt = world.cli(&["--json", "import", "--system-id", &ours]).ok();
    assert!(rebuilt.contains("\"adopted\": 2"), "{rebuilt}");
    let verified = "SELECT name FROM wal_files WHERE status = 'VERIFIED' ORDER BY name";
    let rows = world.catalog().query_in("fresh", verified);
    assert_eq!(rows.len(), 2, "{rows:?}");
}

#[test]
fn an_unmarked_prefix_with_anothers_segments_is_not_marked_as_ours() {
    let world = quick_world();
    for cloud in world.clouds() {
        for number in 1..3 {
            let body = gzip(&STRANGER.bytes(number, Fill::Light));
            cloud.bucket().put(&key(number), &body);
        }
    }
    // Our own segment names our system; it is refused for want of a mark.
    world.place(&MAKER.name(5), &MAKER.bytes(5, Fill::Light));
    let worker = world.worker();
    eventually("both clouds refuse the segment for want of a mark", || {
        let rows = world.rows("SELECT repository FROM copies WHERE cause = 'not-imported'");
        wait::is(rows.len() == 2, rows)
    });
    worker.terminate();
    worker.wait();
    let (ours, strangers) = (MAKER.system_id.to_string(), STRANGER.system_id.to_string());
    check_refused(&world, "walferry", &[], &[&key(1), &ours, &strangers]);
    for cloud in world.clouds() {
        assert!(cloud.bucket().head(OWNER).is_none(), "{}", cloud.name());
    }
}

#[test]
fn an_object_that_contradicts_a_waiting_file_is_left_and_the_import_goes_on() {
    let world = quick_world();
    for cloud in world.clouds() {
        for number in 1..3 {
            let body = gzip(&MAKER.bytes(number, Fill::Light));
            cloud.bucket().put(&key(number), &body);
        }
    }
    // The same name and system, another content, already hashed.
    world.place(&MAKER.name(2), &MAKER.seed(1).bytes(2, Fill::Light));
    let worker = world.worker();
    eventually("both clouds refuse the segment for want of a mark", || {
        let rows = world.rows("SELECT repository FROM copies WHERE cause = 'not-imported'");
        wait::is(rows.len() == 2, rows)
    });
    worker.terminate();
    worker.wait();
    let done = world.cli(&["--json", "import"]);
    assert_eq!(done.code, 1, "{done:?}");
    let done = done.json();
    assert_eq!(done["adopted"], 1, "{done}");
    let left = done["left"].as_array().expect("a list");
    let clouds: Vec<_> = left.iter().map(|left| &left["repository"]).collect();
    assert_eq!(clouds, ["r2", "b2"], "{done}");
    for left in left {
        assert_eq!(left["key"], key(2).as_str(), "{done}");
    }
    assert_eq!(world.backups()[&MAKER.name(1)].status, "VERIFIED");
    for cloud in world.clouds() {
        assert!(cloud.bucket().head(OWNER).is_some(), "{}", cloud.name());
        let body = cloud.bucket().get(&key(2)).expect("there").body;
        assert!(body == gzip(&MAKER.bytes(2, Fill::Light)), "overwritten");
    }
    assert_eq!(
        world.archived_files(),
        [MAKER.name(2)],
        "nothing is deleted"
    );
}
