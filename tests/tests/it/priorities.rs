//! Strict priority: 10 first, in order of arrival within one priority.

use walferry_tests::World;
use walferry_tests::wal::{Fill, Maker};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_027,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

#[test]
fn a_job_of_higher_priority_overtakes_earlier_ones_that_wait_for_the_only_slot() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world
        .cloud("r2")
        .proxy()
        .hold("PUT", &format!("{}.gz", MAKER.name(1)));
    world.worker_with(&[("worker.slots", "1")]);
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    gate.await_waiting(1);

    // The slot is busy. Segments 2 and 3 come first, with lower priorities.
    for (number, priority) in [(2, "3"), (3, "3"), (4, "1"), (5, "9")] {
        let directory = world.directory(&format!("old_wal_{number}"));
        let bytes = MAKER.bytes(number, Fill::Light);
        world.place_in(&directory, &MAKER.name(number), &bytes);
        world.originals_mut().remember(&MAKER.name(number), &bytes);
        let path = directory.display().to_string();
        world
            .cli(&[
                "enqueue",
                "backfill",
                "--dir",
                &path,
                "--priority",
                priority,
            ])
            .ok();
    }
    gate.open();
    world.await_archived();

    let order: Vec<String> = world
        .cloud("r2")
        .proxy()
        .records()
        .into_iter()
        .filter(|record| record.method.as_str() == "PUT" && record.key.ends_with(".gz"))
        .map(|record| record.key)
        .collect();
    let wanted = [1, 5, 2, 3, 4].map(|number| format!("wal/{}.gz", MAKER.name(number)));
    assert_eq!(order, wanted);
}
