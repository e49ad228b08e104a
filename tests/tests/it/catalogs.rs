//! One catalog for several clusters, under a migration, and on the wrong server.

use walferry_tests::originals::Originals;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_038,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};
const SALES: Maker = Maker {
    system_id: 7_300_000_000_000_000_039,
    seed: 1,
    ..MAKER
};

#[test]
fn two_clusters_share_a_catalog_and_a_queue_each_with_a_prefix_of_its_own() {
    let mut world = World::builder().quick_clouds().build();
    let directory = world.directory("sales");
    let archive = world.archive().display().to_string();
    world.set_variable("WAL_ARCHIVE_DIR", "");
    world.set("clusters", "main,sales");
    world.set("clusters.main.directories", &archive);
    world.set("clusters.sales.prefix", "sales/");
    world.set(
        "clusters.sales.directories",
        &directory.display().to_string(),
    );
    let mut sales = Originals::default();
    for number in 1..4 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
        // The same name, another system.
        let bytes = SALES.bytes(number, Fill::Light);
        world.place_in(&directory, &SALES.name(number), &bytes);
        sales.remember(&SALES.name(number), &bytes);
    }
    world.worker();
    eventually("both directories are empty", || {
        let left = [world.archived_files(), world.files_in(&directory)].concat();
        wait::is(left.is_empty(), left)
    });
    world.compare_clouds();
    for cloud in world.clouds() {
        sales
            .compare(cloud.bucket(), "sales/")
            .unwrap_or_else(|wrong| panic!("{}: {wrong}", cloud.name()));
    }
    let verified = "SELECT count(*) FROM wal_files WHERE status = 'VERIFIED'";
    assert_eq!(world.number(verified), 6);
    let status = world.cli(&["--json", "status"]).json();
    let shown: Vec<_> = [0, 1]
        .map(|at| &status["clusters"][at])
        .map(|one| {
            [
                &one["cluster"],
                &one["prefix"],
                &one["system_id"],
                &one["verified"],
            ]
        })
        .into();
    let (main, other) = (MAKER.system_id.to_string(), SALES.system_id.to_string());
    let expected = [
        ["main".into(), "wal/".into(), main.into(), 3.into()],
        ["sales".into(), "sales/".into(), other.into(), 3.into()],
    ];
    let expected: Vec<[&serde_json::Value; 4]> =
        expected.iter().map(|row| row.each_ref()).collect();
    assert_eq!(shown, expected, "{status}");
}

#[test]
fn a_worker_with_a_backlog_goes_on_while_the_catalog_is_migrated() {
    let mut world = World::builder().quick_clouds().build();
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    for number in 1..5 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    world.worker();
    gate.await_waiting(1);
    // Back to the schema of the version before, and forward by the command.
    let newest = include_str!("../../../migrations/2026-11-25-000009_lease_length/down.sql");
    world.rows(newest);
    world.rows("DELETE FROM __diesel_schema_migrations WHERE version = '20261125000009'");
    let migrated = world.cli(&["--json", "catalog", "migrate"]).json();
    assert_eq!(migrated["applied"], serde_json::json!(["20261125000009"]));
    // And what a version to come would do.
    world.rows("ALTER TABLE wal_files ADD COLUMN note text");
    world.rows("INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')");
    gate.open();
    eventually("the running worker archives and deletes everything", || {
        let left = world.archived_files();
        wait::is(left.is_empty(), left)
    });
    world.compare_clouds();
    // A program of this version that starts now does not guess.
    let status = world.cli(&["catalog", "migrate", "--dry-run"]);
    assert_eq!(status.code, 1, "{status:?}");
    assert!(status.stderr.contains("99990101000000"), "{status:?}");
}

/// The finding of `check` with that code, as its level.
fn level(world: &World, arguments: &[&str], code: &str) -> Option<String> {
    let check = world
        .cli(&[arguments, &["--json", "check"]].concat())
        .json();
    let findings = check["findings"].as_array().expect("a list");
    let found = findings.iter().find(|finding| finding["code"] == code)?;
    Some(found["level"].as_str().expect("a level").to_owned())
}

#[test]
fn a_backfill_refuses_a_catalog_on_the_protected_server_and_check_names_it() {
    let world = World::builder().quick_clouds().build();
    let maker = Maker::new(world.catalog().system_id());
    let directory = world.directory("old_wal");
    world.place_in(&directory, &maker.name(1), &maker.bytes(1, Fill::Empty));
    let code = "catalog-on-protected-server";
    assert_eq!(level(&world, &[], code), None);
    let path = directory.display().to_string();
    let added = world
        .cli(&["--json", "enqueue", "backfill", "--dir", &path])
        .json();
    let id = added["id"].as_str().expect("an id").to_owned();
    world.worker();
    eventually("the job says why", || {
        let job = world.cli(&["--json", "queue", "show", &id]).json();
        let error = job["error"].as_str().unwrap_or_default();
        wait::is(error.contains("the very server that it protects"), job)
    });
    for cloud in world.clouds() {
        let keys = cloud.bucket().keys("");
        assert!(keys.is_empty(), "{}: {keys:?}", cloud.name());
    }
    assert_eq!(level(&world, &[], code).as_deref(), Some("critical"));
    let allowed = ["--set", "catalog.allow_same_server=true"];
    assert_eq!(level(&world, &allowed, code).as_deref(), Some("warning"));
}
