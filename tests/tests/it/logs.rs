//! What a worker writes into its log.

use serde_json::Value;
use walferry_tests::World;
use walferry_tests::process::shell_code;
use walferry_tests::wal::{Fill, Maker};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_041,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

#[test]
fn with_json_each_line_is_an_object_and_each_segment_has_one_line() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("log.format", "json")
        .build();
    let worker = world.worker();
    for number in 1..6 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    world.await_archived();
    worker.terminate();
    assert_eq!(shell_code(worker.wait()), 0);

    let lines: Vec<Value> = worker
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let archived: Vec<&Value> = lines
        .iter()
        .filter(|line| line["message"] == "archived")
        .collect();
    let mut names: Vec<&str> = archived
        .iter()
        .filter_map(|line| line["segment.name"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, world.originals().names());
    for line in archived {
        assert_eq!(line["cluster.name"], "main", "{line}");
        assert_eq!(line["size_bytes"], 1 << 20, "{line}");
        assert!(line["stored_bytes"].as_u64() > Some(0), "{line}");
        assert!(line["duration_ms"].is_u64(), "{line}");
    }
}
