//! Segments above `archive.streaming_threshold`: never whole in memory, sent in parts.

use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Cloud, Fault, Rule, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_020,
    timeline: 1,
    segment_size: 16 << 20,
    seed: 0,
};

/// The object went in `parts` parts, each once, and as nothing else.
fn check_parts(cloud: &Cloud, name: &str, parts: usize) {
    let key = format!("wal/{name}.gz");
    let records = cloud.proxy().records();
    let queries: Vec<&str> = records
        .iter()
        .filter(|record| record.key == key && record.method.as_str() == "PUT")
        .filter(|record| record.status == Some(200))
        .map(|record| record.query.as_str())
        .collect();
    assert!(
        queries.iter().all(|query| query.contains("uploadId=")),
        "{}: {queries:?}",
        cloud.name()
    );
    assert_eq!(queries.len(), parts, "{}: {queries:?}", cloud.name());
}

#[test]
fn a_segment_of_128_mib_is_sent_in_parts_and_unpacks_to_the_same_bytes() {
    let mut world = World::new();
    let maker = MAKER.segment_size(128 << 20);
    let mut bytes = maker.bytes(1, Fill::Light);
    // More than two parts of 8 MiB that do not pack, in the middle of what does.
    let random = Maker::new(0).segment_size(32 << 20).bytes(1, Fill::Random);
    bytes[64 << 20..][..20 << 20].copy_from_slice(&random[1 << 20..][..20 << 20]);
    let file = world.source(&maker.name(1), &bytes);
    world.push(&file).ok();
    world.worker();
    world.await_archived();
    for cloud in world.clouds() {
        check_parts(cloud, &maker.name(1), 3);
        check_metadata(&world, cloud, &maker);
    }
    world.assert_written_once();
    let key = format!("wal/{}.gz", maker.name(1));
    let object = world.cloud("r2").bucket().head(&key).expect("archived");
    let size = object.header("content-length").expect("a size");
    assert_eq!(
        world.rows("SELECT size_bytes, compression_ratio BETWEEN 0.8 AND 0.99 FROM backups"),
        [[Some(size), Some("t".to_owned())]]
    );
}

/// As objects that go in one PUT: all that a rebuilt catalog needs.
fn check_metadata(world: &World, cloud: &Cloud, maker: &Maker) {
    let name = maker.name(1);
    let object = cloud
        .bucket()
        .head(&format!("wal/{name}.gz"))
        .expect("archived");
    let meta = |name: &str| {
        object
            .header(&format!("x-amz-meta-wf-{name}"))
            .unwrap_or_else(|| panic!("{}: no wf-{name}", cloud.name()))
    };
    let original = world.originals().get(&name).expect("handed over");
    assert_eq!(meta("sha256"), original.sha256);
    assert_eq!(meta("size"), original.size.to_string());
    assert_eq!(meta("cluster"), "main");
    assert_eq!(meta("system-id"), maker.system_id.to_string());
    assert_eq!(meta("encoder"), "fitted");
    assert_eq!(meta("level"), "9");
    let mtime =
        world.number("SELECT floor(extract(epoch FROM mtime) * 1000)::bigint FROM wal_files");
    assert_eq!(meta("mtime"), mtime.to_string());
}

/// More than waits in front of a repository and is on the wire to it.
const LARGER_THAN_WHAT_WAITS: Maker = Maker {
    segment_size: 64 << 20,
    ..MAKER
};

#[test]
fn a_file_that_changes_while_it_is_sent_is_in_no_cloud() {
    let world = World::builder()
        .quick_clouds()
        .setting("archive.streaming_threshold", "8MiB")
        .build();
    let gates = ["r2", "b2"].map(|cloud| world.cloud(cloud).proxy().hold("PUT", ".gz"));
    let maker = LARGER_THAN_WHAT_WAITS;
    let path = world.archive().join(maker.name(1));
    world.worker();
    world.place(&maker.name(1), &maker.bytes(1, Fill::Random));
    for gate in &gates {
        gate.await_waiting(1);
    }
    // Its hash is known, most of it is not packed yet. The time of the last write is as
    // before: only what was read can tell.
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("it lies there");
    let modified = file.metadata().and_then(|facts| facts.modified());
    file.write_all_at(b"changed", 31 << 20).expect("write");
    file.set_modified(modified.expect("a time"))
        .expect("set it");
    for gate in &gates {
        gate.open();
    }
    eventually("the change is told", || {
        let listed = world.cli(&["--json", "quarantine", "ls"]).json();
        wait::is(listed[0]["code"] == "other-content", listed)
    });
    for cloud in world.clouds() {
        assert_eq!(cloud.bucket().keys("wal/0"), Vec::<String>::new());
    }
    assert!(world.archived_files().contains(&maker.name(1)));
}

#[test]
fn a_cloud_that_stands_still_does_not_keep_a_streamed_file_from_the_other() {
    // Nothing times out here: what a cloud holds back is there until the gate opens.
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.streaming_threshold", "8MiB")
        .setting("repositories.b2.idle_timeout", "5m")
        .build();
    let maker = LARGER_THAN_WHAT_WAITS;
    let gate = world.cloud("b2").proxy().hold("POST", ".gz");
    world.worker();
    world.hand_over(&maker.name(1), &maker.bytes(1, Fill::Random));
    eventually("r2 has it", || {
        let backups = world.backups();
        let in_r2 = backups.values().any(|backup| backup.r2_path.is_some());
        wait::is(in_r2, backups)
    });
    assert_eq!(world.archived_files().len(), 1, "b2 has not");
    gate.open();
    world.await_archived();
}

#[test]
fn a_segment_of_one_gib_is_archived_in_bounded_memory() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.memory_limit", "128MiB")
        .build();
    let worker = world.worker();
    let maker = MAKER.segment_size(1 << 30);
    let mut bytes = maker.bytes(1, Fill::Empty);
    let random = Maker::new(0).segment_size(32 << 20).bytes(1, Fill::Random);
    bytes[512 << 20..][..random.len()].copy_from_slice(&random);
    world.hand_over(&maker.name(1), &bytes);
    drop(bytes);
    world.await_archived_within(Duration::from_secs(240));
    let status = format!("/proc/{}/status", worker.process().id());
    let status = std::fs::read_to_string(status).expect("a running process");
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))
        .and_then(|size| size.trim().parse().ok())
        .expect("a size in kB");
    assert!(peak < 300 << 10, "{peak} kB at the most");
}

/// glibc keeps what was freed unless its threshold is fixed, which it reads from there.
#[test]
fn a_worker_fixes_the_allocators_threshold() {
    let world = World::builder().build();
    let threshold = |process: u32| {
        let environment = std::fs::read(format!("/proc/{process}/environ")).expect("a process");
        environment
            .split(|byte| *byte == 0)
            .find_map(|line| line.strip_prefix(b"MALLOC_MMAP_THRESHOLD_="))
            .map(|value| String::from_utf8_lossy(value).into_owned())
    };
    let worker = world.worker();
    assert_eq!(threshold(worker.process().id()).as_deref(), Some("262144"));
}

#[test]
fn only_what_is_above_the_threshold_is_streamed() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.streaming_threshold", "16MiB")
        .build();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Random));
    world.worker();
    world.await_archived();
    for cloud in world.clouds() {
        let records = cloud.proxy().records();
        assert!(
            records
                .iter()
                .all(|record| !record.query.contains("upload"))
        );
    }
}

#[test]
fn a_part_that_was_cut_off_is_sent_again_and_the_object_is_whole() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.streaming_threshold", "8MiB")
        .setting("archive.retry_base", "200ms")
        .setting("archive.retry_max", "1s")
        .build();
    world.cloud("b2").proxy().fault(
        Rule::new(Fault::ResetMidBody)
            .on("PUT")
            .for_keys_with(".gz")
            .times(1),
    );
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Random));
    world.worker();
    world.await_archived();
    check_parts(world.cloud("r2"), &MAKER.name(1), 3);
    world.assert_written_once();
}
