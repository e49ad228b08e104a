//! One cluster with two archive directories: the old and the new primary after a failover.

use std::path::PathBuf;

use walferry_tests::originals::Originals;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_026,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

fn world_with_two_directories() -> (World, PathBuf) {
    let mut world = World::builder().quick_clouds().build();
    let new = world.directory("new");
    let both = format!("old={},new={}", world.archive().display(), new.display());
    world.set_variable("WAL_ARCHIVE_DIR", "");
    world.set("clusters.main.directories", &both);
    (world, new)
}

#[test]
fn the_same_content_in_two_directories_is_one_segment_and_both_files_go() {
    let (mut world, new) = world_with_two_directories();
    for number in 1..3 {
        let bytes = MAKER.bytes(number, Fill::Light);
        world.hand_over(&MAKER.name(number), &bytes);
        world.place_in(&new, &MAKER.name(number), &bytes);
    }
    let only_new = MAKER.bytes(3, Fill::Light);
    world.place_in(&new, &MAKER.name(3), &only_new);
    world.originals_mut().remember(&MAKER.name(3), &only_new);
    world.worker();
    world.await_archived();
    eventually("the other directory is empty too", || {
        let left = world.files_in(&new);
        wait::is(left.is_empty(), left)
    });
    assert_eq!(world.number("SELECT count(*) FROM wal_files"), 3);
    world.assert_written_once();
}

#[test]
fn another_content_under_the_same_name_is_critical_and_stays_and_check_names_both() {
    let (world, new) = world_with_two_directories();
    let name = MAKER.name(1);
    let contents = [MAKER, MAKER.seed(1)].map(|maker| maker.bytes(1, Fill::Light));
    world.place(&name, &contents[0]);
    world.place_in(&new, &name, &contents[1]);
    world.worker();
    let check = eventually("check names the conflict", || {
        let check = world.cli(&["check"]);
        let said = check.stdout.contains("other-content") && check.stdout.contains(&name);
        if said { Ok(check) } else { Err(check) }
    });
    assert_ne!(check.code, 0, "{check:?}");
    let mut hashes = Originals::default();
    for (number, bytes) in contents.iter().enumerate() {
        hashes.remember(&number.to_string(), bytes);
        let sha256 = &hashes.get(&number.to_string()).expect("remembered").sha256;
        assert!(check.stdout.contains(sha256.as_str()), "{}", check.stdout);
    }

    // Nothing is lost: what is archived is one of them, and the other lies where it lay.
    eventually("one of them is archived", || {
        let verified = world.number("SELECT count(*) FROM backups WHERE status = 'VERIFIED'");
        wait::is(verified == 1, verified)
    });
    let archived = world.backups()[&name].checksum.clone();
    let stays = [world.archive(), new]
        .into_iter()
        .zip(&contents)
        .enumerate()
        .filter(|(number, _)| {
            let original = hashes.get(&number.to_string()).expect("remembered");
            Some(&original.sha256) != archived.as_ref()
        });
    for (_, (directory, bytes)) in stays {
        let path = directory.display().to_string();
        assert!(check.stdout.contains(&path), "{path}: {}", check.stdout);
        let found = std::fs::read(directory.join(&name)).expect("it stays");
        assert!(found == *bytes, "{path}");
    }
}
