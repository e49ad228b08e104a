//! Segments above `archive.streaming_threshold`: never whole in memory, sent in parts.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Cloud, Fault, Rule, World};

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
    }
    world.assert_written_once();
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
