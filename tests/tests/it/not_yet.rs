//! Files that have to wait, because somebody's copy may be at work, and what is taken with a warning.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::world::Program;
use walferry_tests::{World, eventually, wait};

use crate::permissions::chmod;

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_042,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// The only file that `quarantine ls` names.
fn the_suspect(world: &World) -> serde_json::Value {
    eventually("one file is suspicious", || {
        let suspects = world.cli(&["--json", "quarantine", "ls"]).json();
        match suspects.as_array().map(Vec::as_slice) {
            Some([suspect]) => Ok(suspect.clone()),
            _ => Err(suspects),
        }
    })
}

/// The hint and message of `check` about quarantined files.
fn quarantined(world: &World) -> Option<String> {
    let check = world.cli(&["--json", "check"]).json();
    let findings = check["findings"].as_array().cloned().unwrap_or_default();
    let found = findings.iter().find(|one| one["code"] == "quarantined")?;
    assert_eq!(found["level"], "critical", "{found}");
    Some(format!("{} {}", found["message"], found["hint"]))
}

/// What `status` counts.
fn counted(world: &World) -> u64 {
    let status = world.cli(&["--json", "status"]).json();
    let quarantined = status["clusters"][0]["quarantined"].as_u64();
    quarantined.unwrap_or_else(|| panic!("{status}"))
}

#[track_caller]
fn await_metric(worker: &Program, suspects: f64) {
    eventually("the metric says so", || {
        let seen = worker.metric(r#"walferry_suspect_files{cluster="main"}"#);
        wait::is(seen == Some(suspects), seen)
    });
}

/// Makes the only suspect so many seconds old.
fn age(world: &World, seconds: u32) {
    let update = format!(
        "UPDATE suspects SET first_seen = clock_timestamp() - interval '{seconds} s' RETURNING name"
    );
    assert_eq!(world.rows(&update).len(), 1);
}

#[test]
fn a_short_file_is_not_yet_for_a_minute_and_then_an_error_that_names_the_way_out() {
    let mut world = World::builder().quick_clouds().build();
    let worker = world.worker();
    let name = MAKER.name(1);
    let whole = MAKER.bytes(1, Fill::Light);
    world.place(&name, &whole[..1000]);
    let suspect = the_suspect(&world);
    assert_eq!(suspect["name"], name.as_str());
    assert_eq!(suspect["code"], "short");
    await_metric(&worker, 1.0);
    age(&world, 40);
    assert_eq!(the_suspect(&world)["critical"], false);
    assert_eq!(quarantined(&world), None);
    assert_eq!(counted(&world), 0);
    age(&world, 61);
    assert_eq!(the_suspect(&world)["critical"], true);
    assert_eq!(counted(&world), 1);
    let told = quarantined(&world).expect("check names it");
    assert!(
        told.contains(&name) && told.contains("walferry quarantine move"),
        "{told}"
    );
    // The copy that was at work ends well after all.
    world.hand_over(&name, &whole);
    world.await_archived();
    eventually("nothing is suspicious any more", || {
        let told = quarantined(&world);
        wait::is(told.is_none(), told)
    });
    await_metric(&worker, 0.0);
}

#[test]
fn an_unreadable_file_is_not_yet_and_is_archived_as_soon_as_it_may_be_read() {
    walferry_tests::users::need_two_users();
    let mut world = World::builder().quick_clouds().build();
    let name = MAKER.name(1);
    let bytes = MAKER.bytes(1, Fill::Light);
    let path = world.archive().join(&name);
    world.hand_over(&name, &bytes);
    chmod(&path, 0o600);
    world.worker();
    let suspect = the_suspect(&world);
    assert_eq!(suspect["code"], "unreadable");
    assert_eq!(suspect["critical"], false);
    let reason = suspect["reason"].as_str().expect("a reason");
    for part in ["owner postgres", "mode 0600", "HINT: "] {
        assert!(reason.contains(part), "{reason}");
    }
    // No scheduler, no restart: the change of the mode alone is seen.
    chmod(&path, 0o640);
    world.await_archived();
}

#[test]
fn a_segment_of_an_unknown_postgresql_is_warned_of_and_archived() {
    let mut world = World::builder().quick_clouds().build();
    let worker = world.worker();
    let mut bytes = MAKER.bytes(1, Fill::Light);
    bytes[..2].copy_from_slice(&0xD1FF_u16.to_le_bytes());
    world.hand_over(&MAKER.name(1), &bytes);
    world.await_archived();
    let log = worker.log();
    let warning = log
        .lines()
        .find(|line| line.contains("pages of an unknown PostgreSQL version"))
        .unwrap_or_else(|| panic!("{log}"));
    for part in ["WARN", "D1FF", &MAKER.name(1)] {
        assert!(warning.contains(part), "{warning}");
    }
    assert_eq!(quarantined(&world), None);
}
