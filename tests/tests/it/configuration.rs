//! Configuration errors: all at once, at the start, with no secret in them.

use walferry_tests::process::shell_code;
use walferry_tests::{World, eventually};

#[test]
fn a_worker_names_every_problem_at_once_and_does_not_start() {
    let mut world = World::builder().bare().build();
    world.set("archive.level", "11");
    world.set("worker.slots", "many");
    world.set_variable("WALFERRY_NO_SUCH_SETTING", "1");
    world.set_variable("CLOUDFLARE_R2_SECRET_ACCESS_KEY", "hunter2hunter2");
    let worker = world.start("worker", &[]);
    assert_ne!(shell_code(worker.wait()), 0);
    let log = worker.log();
    for problem in [
        "WALFERRY_ARCHIVE_LEVEL",
        "WALFERRY_WORKER_SLOTS",
        "WALFERRY_NO_SUCH_SETTING",
        "DATABASE_URL",
        "REDIS_URL",
        "CLOUDFLARE_R2_ENDPOINT_URL",
    ] {
        assert!(log.contains(problem), "{problem} is not named:\n{log}");
    }
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn the_old_systems_variables_alone_are_enough_to_run() {
    let world = World::builder().quick_clouds().build();
    assert!(
        world
            .environment()
            .keys()
            .all(|name| !name.starts_with("WALFERRY_")),
        "{:?}",
        world.environment().keys()
    );
    world.worker();
    world.scheduler();
}

#[test]
fn no_secret_is_logged_or_shown() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("log.level", "trace")
        .build();
    let secrets: Vec<String> = world
        .clouds()
        .iter()
        .map(|c| c.credentials().secret.clone())
        .collect();
    let worker = world.worker();
    let maker = walferry_tests::wal::Maker::new(7_300_000_000_000_000_008);
    world.hand_over(
        &maker.name(1),
        &maker.bytes(1, walferry_tests::wal::Fill::Empty),
    );
    world.await_archived();
    let shown = world.cli(&["config", "check"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    eventually("the worker has logged", || {
        let log = worker.log();
        if log.len() > 1000 { Ok(()) } else { Err(log) }
    });
    for secret in secrets {
        for (what, text) in [
            ("log", worker.log()),
            ("config check", shown.stdout.clone()),
        ] {
            assert!(!text.contains(&secret), "{secret} stands in the {what}");
        }
    }
}

#[test]
fn a_catalog_on_the_protected_server_is_refused_unless_allowed() {
    let mut world = World::builder().quick_clouds().build();
    let system_id = world.catalog().system_id();
    let maker = walferry_tests::wal::Maker::new(system_id);
    world.hand_over(
        &maker.name(1),
        &maker.bytes(1, walferry_tests::wal::Fill::Empty),
    );
    let worker = world.start("worker", &[]);
    eventually("it says why", || {
        let log = worker.log();
        if log.contains("HINT:") && log.contains("catalog") {
            Ok(())
        } else {
            Err(log)
        }
    });
    assert!(
        world.cloud("r2").bucket().keys("wal/0").is_empty(),
        "nothing is archived"
    );
    if worker.running() {
        worker.terminate();
        worker.wait();
    }
    world.worker_with(&[("catalog.allow_same_server", "true")]);
    world.await_archived();
}
