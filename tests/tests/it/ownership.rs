//! Whose a prefix is: two systems that archive into one destroy each other silently.

use std::collections::BTreeMap;

use walferry_tests::originals::Originals;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Cloud, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_023,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};
/// Another system whose segments have the same names.
const STRANGER: Maker = Maker {
    system_id: 7_300_000_000_000_000_024,
    seed: 1,
    ..MAKER
};

/// Two segments of the owner are archived.
fn world_with_an_owner() -> World {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.retry_base", "200ms")
        .setting("archive.retry_max", "1s")
        .build();
    for number in 1..3 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    world
}

/// All but retention's mark, which every run rewrites.
fn contents(cloud: &Cloud, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let bucket = cloud.bucket();
    let mut keys = bucket.keys(prefix);
    keys.retain(|key| !key.ends_with("/walferry-catalog.json"));
    keys.into_iter()
        .map(|key| {
            let body = bucket.get(&key).expect("listed").body.to_vec();
            (key, body)
        })
        .collect()
}

#[test]
fn another_system_with_a_fresh_catalog_is_refused_and_nothing_is_overwritten() {
    let mut world = world_with_an_owner();
    let owner = world.worker();
    world.await_archived();
    owner.terminate();
    owner.wait();
    let before: Vec<_> = world.clouds().iter().map(|c| contents(c, "")).collect();

    // The stranger shares nothing with the owner but the buckets and the prefix.
    world.catalog().execute("CREATE DATABASE stranger");
    let directory = world.directory("strangers_archive");
    world.set_variable("DATABASE_URL", &world.catalog().url("stranger"));
    let redis = world.redis().url().replace("/0", "/1");
    world.set_variable("REDIS_URL", &redis);
    world.set_variable("WAL_ARCHIVE_DIR", &directory.display().to_string());
    world.cli(&["catalog", "migrate"]).ok();
    for number in 2..4 {
        let bytes = STRANGER.bytes(number, Fill::Light);
        world.place_in(&directory, &STRANGER.name(number), &bytes);
    }
    world.worker();

    let errors = eventually("each copy is refused by each cloud", || {
        let rows = world
            .catalog()
            .query_in("stranger", "SELECT cause, last_error FROM copies");
        let refused = rows
            .iter()
            .filter(|row| row[0].as_deref() == Some("other-system"));
        if refused.count() == 4 {
            Ok(rows)
        } else {
            Err(rows)
        }
    });
    for error in errors {
        let error = error[1].clone().unwrap_or_default();
        assert!(error.contains(&MAKER.system_id.to_string()), "{error}");
        assert!(error.contains(&STRANGER.system_id.to_string()), "{error}");
        assert!(error.contains("HINT:"), "{error}");
    }
    let names = [STRANGER.name(2), STRANGER.name(3)];
    assert_eq!(world.files_in(&directory), names, "nothing is deleted");
    for (cloud, before) in world.clouds().iter().zip(&before) {
        assert!(contents(cloud, "") == *before, "{}", cloud.name());
    }
    let check = world.cli(&["check"]);
    assert_ne!(check.code, 0, "{check:?}");
}

#[test]
fn after_cluster_upgrade_the_new_system_archives_into_the_next_prefix_and_the_old_stays() {
    let world = world_with_an_owner();
    world.worker();
    world.await_archived();
    let before: Vec<_> = world.clouds().iter().map(|c| contents(c, "wal/")).collect();

    // pg_upgrade: the same cluster and directory, another system id.
    let name = STRANGER.name(2);
    let bytes = STRANGER.bytes(2, Fill::Light);
    world.place(&name, &bytes);
    eventually("the segment of another system is a suspect", || {
        let suspects = world.cli(&["--json", "quarantine", "ls"]).json();
        wait::is(suspects[0]["name"] == name.as_str(), suspects)
    });
    let check = world.cli(&["check"]);
    assert_ne!(check.code, 0, "{check:?}");
    assert!(
        check.stdout.contains("walferry cluster upgrade"),
        "{check:?}"
    );

    world
        .cli(&["cluster", "upgrade", "--prefix", "wal-16/"])
        .ok();
    world.cli(&["enqueue", "continuous-wal-archiving"]).ok();
    let mut upgraded = Originals::default();
    upgraded.remember(&name, &bytes);
    eventually("the new system's segment is archived and deleted", || {
        let left = world.archived_files();
        wait::is(left.is_empty(), left)
    });
    for (cloud, before) in world.clouds().iter().zip(&before) {
        upgraded
            .compare(cloud.bucket(), "wal-16/")
            .expect("the next prefix holds it");
        assert!(contents(cloud, "wal/") == *before, "{}", cloud.name());
    }
    world.compare_clouds();
}
