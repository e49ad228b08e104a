//! What would be lost if the server died now, and what the server itself says of its
//! archiving: known only where a connection to it is configured.

use serde_json::Value;
use walferry_tests::{Finished, Intake, Postgres, World, eventually, eventually_within, wait};

const KNOWN: &str = r#"walferry_rpo_known{cluster="main"}"#;

fn codes(check: &Finished) -> Vec<String> {
    let list = check.json()["findings"].as_array().cloned();
    list.unwrap_or_default()
        .iter()
        .filter_map(|finding| finding["code"].as_str().map(str::to_owned))
        .collect()
}

fn archive_one(world: &mut World, server: &Postgres) {
    let last = server.switch();
    eventually("the server has handed its segment over", || {
        let archived = server.archiver("last_archived_wal");
        wait::is(archived == last, archived)
    });
    world.originals_mut().remember_archived_by(server);
    world.await_archived();
}

fn rpo(world: &World) -> Value {
    world.cli(&["--json", "status"]).json()["clusters"][0]["rpo_seconds"].clone()
}

#[test]
fn rpo_is_unknown_until_a_connection_to_the_server_is_configured() {
    let mut world = World::builder().quick_clouds().build();
    let server = world.postgres(Intake::Push);
    let worker = world.worker();
    archive_one(&mut world, &server);
    assert_eq!(rpo(&world), Value::Null);
    assert!(world.cli(&["status"]).stdout.contains("RPO now unknown"));
    assert!(codes(&world.cli(&["--json", "check"])).contains(&"rpo-unknown".to_owned()));
    eventually("the gauges were read", || match worker.metric(KNOWN) {
        Some(0.0) => Ok(()),
        other => Err(other),
    });

    world.set("clusters.main.connection", &server.url("postgres"));
    let known = world.worker();
    assert!(rpo(&world).is_number(), "{}", rpo(&world));
    assert!(!codes(&world.cli(&["--json", "check"])).contains(&"rpo-unknown".to_owned()));
    eventually_within(
        std::time::Duration::from_secs(20),
        "the gauges know the RPO",
        || match known.metric(KNOWN) {
            Some(1.0) => Ok(()),
            other => Err(other),
        },
    );
}

#[test]
fn check_compares_the_servers_settings_and_its_archiver_with_the_catalog() {
    let mut world = World::builder().quick_clouds().build();
    let mut server = world.postgres(Intake::Push);
    world.set("clusters.main.connection", &server.url("postgres"));
    world.worker();
    archive_one(&mut world, &server);
    let before = codes(&world.cli(&["--json", "check"]));
    assert!(before.contains(&"archive-timeout".to_owned()), "{before:?}");
    assert!(!before.contains(&"archive-command-fails".to_owned()));

    server.set(&[("archive_command", "false"), ("archive_timeout", "60")]);
    server.switch();
    eventually("check names the archive_command that fails", || {
        let found = codes(&world.cli(&["--json", "check"]));
        if found.contains(&"archive-command-fails".to_owned())
            && !found.contains(&"archive-timeout".to_owned())
        {
            Ok(())
        } else {
            Err(found)
        }
    });

    server.crash();
    let status = world.cli(&["status"]);
    assert_eq!(status.code, 1, "{status:?}");
    assert!(status.stdout.contains("RPO now unknown"), "{status:?}");
    assert!(
        codes(&world.cli(&["--json", "check"])).contains(&"server-unknown".to_owned()),
        "unknown is never shown as good"
    );
}
