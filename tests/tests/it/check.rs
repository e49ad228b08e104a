//! What `walferry check` says: OK of a healthy archive, and each trouble by its code.

use serde_json::Value;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Fault, Intake, Postgres, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_031,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

fn findings(world: &World) -> Vec<Value> {
    let check = world.cli(&["--json", "check"]).json();
    check["findings"].as_array().cloned().unwrap_or_default()
}

/// Waits until `check` says this, and is not content.
#[track_caller]
fn await_code(world: &World, code: &str, level: &str) -> Value {
    await_in(world, code, level, "")
}

/// The same of a certain part.
#[track_caller]
fn await_in(world: &World, code: &str, level: &str, part: &str) -> Value {
    let found = eventually(&format!("check says {code} of `{part}`"), || {
        let check = world.cli(&["--json", "check"]);
        let all = check.json()["findings"].clone();
        let found = all.as_array().and_then(|all| {
            all.iter()
                .find(|one| {
                    one["code"] == code && one["what"].as_str().unwrap_or("").contains(part)
                })
                .cloned()
        });
        match found {
            Some(found) if check.code == 1 => Ok(found),
            _ => Err(all),
        }
    });
    assert_eq!(found["level"], level, "{found}");
    found
}

#[track_caller]
fn assert_hint(finding: &Value, word: &str) {
    let hint = finding["hint"].as_str().unwrap_or_default();
    assert!(hint.contains(word), "{finding}");
}

/// A server that archives, its base backup and a segment that both clouds hold.
fn healthy() -> (World, Postgres) {
    let mut world = World::builder()
        .quick_clouds()
        // The test's own machine may be fuller than the default.
        .setting("thresholds.directory_use", "99.99%")
        .build();
    let settings = world.protected("protected", Intake::Push);
    let server = world.postgres_with(settings.option("archive_timeout", "60"));
    world.set("clusters.main.connection", &server.url("postgres"));
    world.worker();
    server.base_backup(world.folder(), "base", &["-X", "none"]);
    let last = server.switch();
    eventually("the server has handed its segment over", || {
        let archived = server.archiver("last_archived_wal");
        wait::is(archived == last, archived)
    });
    world.originals_mut().remember_archived_by(&server);
    world.await_archived();
    (world, server)
}

#[test]
fn a_healthy_archive_is_ok_and_each_trouble_has_its_exit_code() {
    let (mut world, server) = healthy();
    let nagios = |world: &World, code: i32, word: &str| {
        eventually(&format!("WALFERRY {word}"), || {
            let check = world.cli(&["check", "--nagios"]);
            let said = check.stdout.starts_with(&format!("WALFERRY {word} - "));
            wait::is(said && check.code == code, check)
        });
    };
    eventually("check has nothing to say", || {
        let check = world.cli(&["check"]);
        wait::is(check.code == 0, check)
    });
    nagios(&world, 0, "OK");
    let all = findings(&world);
    for part in [
        "catalog",
        "redis",
        "repository r2",
        "workers",
        "cluster main",
    ] {
        let said = all.iter().any(|one| one["what"] == part);
        assert!(said, "each dependency has a line, {part} too: {all:?}");
    }

    world.cli(&["queue", "pause"]).ok();
    nagios(&world, 1, "WARNING");
    world.cli(&["queue", "resume"]).ok();
    nagios(&world, 0, "OK");
    world.set_variable("WALFERRY_CLUSTERS_MAIN_CONNECTION", "");
    nagios(&world, 3, "UNKNOWN");
    world.set("clusters.main.connection", &server.url("postgres"));
    nagios(&world, 0, "OK");
    world.cloud("b2").proxy().fault(Fault::Refuse);
    nagios(&world, 2, "CRITICAL");
    assert_eq!(world.cli(&["check"]).code, 1);
}

#[test]
fn silence_is_unknown_unless_the_server_itself_says_that_nothing_is_missing() {
    let (mut world, server) = healthy();
    let silent = |world: &World| {
        let found = findings(world).into_iter();
        found
            .filter(|one| one["code"] == "silence")
            .collect::<Vec<_>>()
    };
    world.set("thresholds.handover_silence", "1s");
    world.set_variable("WALFERRY_CLUSTERS_MAIN_CONNECTION", "");
    let told = await_code(&world, "silence", "unknown");
    assert_hint(&told, "connection");
    world.set("clusters.main.connection", &server.url("postgres"));
    assert_eq!(silent(&world), [] as [Value; 0], "the server is idle");
    world.cli(&["check"]).ok();

    // A server that cannot hand over is not idle.
    let mut server = server;
    server.set(&[("archive_command", "false")]);
    server.switch();
    await_code(&world, "archive-command-fails", "critical");
    await_code(&world, "silence", "unknown");
}

#[test]
fn a_backfills_directory_is_never_called_silent() {
    let mut world = World::builder().quick_clouds().build();
    let directory = world.directory("old_wal");
    let bytes = MAKER.bytes(1, Fill::Light);
    world.place_in(&directory, &MAKER.name(1), &bytes);
    world.originals_mut().remember(&MAKER.name(1), &bytes);
    let path = directory.display().to_string();
    world.cli(&["enqueue", "backfill", "--dir", &path]).ok();
    world.worker();
    world.await_archived();
    world.set("thresholds.handover_silence", "1s");
    let archive = world.archive().display().to_string();
    await_in(&world, "silence", "unknown", &archive);
    let status = world.cli(&["--json", "status"]).json();
    let known = status["clusters"][0]["directories"].clone();
    let known = known.as_array().cloned().unwrap_or_default();
    let backfill = known.iter().find(|one| one["path"] == path.as_str());
    assert_eq!(
        backfill.map(|one| one["watched"].clone()),
        Some(Value::Bool(false))
    );
    let named = findings(&world)
        .into_iter()
        .filter(|one| one["what"].as_str().unwrap_or("").contains("old_wal"));
    assert_eq!(named.count(), 0);
}

#[test]
fn what_no_worker_has_ever_reported_is_unknown() {
    let mut world = World::builder().quick_clouds().build();
    await_in(&world, "never-seen", "unknown", "cluster main");
    await_in(&world, "never-seen", "unknown", "repository b2");
    let status = world.cli(&["status"]);
    assert_eq!(status.code, 1, "{status:?}");
    assert!(status.stdout.contains("UNKNOWN cluster main"), "{status:?}");

    world.worker();
    eventually("the worker has reported what it serves", || {
        let all = findings(&world);
        wait::is(all.iter().all(|one| one["code"] != "never-seen"), all)
    });
    world.cli(&["status"]).ok();
    // A directory that this worker does not know of.
    let more = world.directory("more").display().to_string();
    let directories = format!("main={},more={more}", world.archive().display());
    world.set_variable("WAL_ARCHIVE_DIR", &directories);
    await_in(&world, "not-scanned", "unknown", &more);
    let status = world.cli(&["status"]).stdout;
    let line = format!("directory {more}: unknown files, unknown");
    assert!(status.contains(&line), "{status}");
}

#[test]
fn what_the_workers_said_last_is_unknown_once_they_are_silent() {
    let mut world = World::builder().quick_clouds().build();
    let worker = world.worker();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.await_archived();
    let breaker = |world: &World| {
        let status = world.cli(&["--json", "status"]).json();
        status["clusters"][0]["repositories"][0]["breaker"].clone()
    };
    eventually("the clouds are known to answer", || {
        let breaker = breaker(&world);
        wait::is(breaker == "closed", breaker)
    });
    // What it has begun is nobody's until its leases run out.
    world.expect_leftover_claims();
    worker.kill();
    await_in(&world, "no-worker", "critical", "queue backups");
    world.rows("UPDATE repositories SET reported_at = clock_timestamp() - interval '61 s'");
    assert_eq!(breaker(&world), "unknown");
    await_in(&world, "cloud-unknown", "unknown", "repository r2");
    let scanned = |world: &World| {
        let status = world.cli(&["--json", "status"]).json();
        status["clusters"][0]["directories"][0].clone()
    };
    assert!(scanned(&world)["used"].is_number());
    world.rows("UPDATE directories SET last_scan_at = clock_timestamp() - interval '16 min'");
    await_code(&world, "not-scanned", "unknown");
    for field in ["used", "files", "bytes"] {
        assert_eq!(scanned(&world)[field], Value::Null, "{field}");
    }
}

#[test]
fn every_queue_is_looked_at() {
    let mut world = World::builder().quick_clouds().build();
    let sales = world.directory("sales").display().to_string();
    world.set("clusters", "main,sales");
    world.set("clusters.sales.prefix", "sales/");
    world.set("clusters.sales.directories", &sales);
    world.set("clusters.sales.queue", "sales");
    world.worker_with(&[
        ("worker.queues", "backups"),
        ("worker.directories", "main/main"),
    ]);
    eventually("the worker is seen", || {
        let all = findings(&world);
        let of = |queue: &str| {
            all.iter()
                .any(|one| one["code"] == "no-worker" && one["what"] == queue)
        };
        wait::is(of("queue sales") && !of("queue backups"), all.clone())
    });
    world.cli(&["queue", "pause", "-Q", "sales"]).ok();
    let paused = await_in(&world, "queue-paused", "warning", "queue sales");
    assert_hint(&paused, "walferry queue resume -Q sales");
    let added = [
        "--json",
        "enqueue",
        "continuous-wal-archiving",
        "--cluster",
        "sales",
    ];
    let id = world.cli(&added).json()["id"].clone();
    let ready = |world: &World| world.cli(&["--json", "status"]).json()["queue_ready"].clone();
    assert_eq!(ready(&world), 1, "status counts it");
    let id = id.as_str().expect("an id");
    world.cli(&["queue", "kill", id, "-Q", "sales"]).ok();
    let dead = await_in(&world, "dead-letters", "warning", "queue sales");
    assert_hint(&dead, "walferry queue retry --all -Q sales");
    assert_eq!(ready(&world), 0);
}

#[test]
fn what_redis_and_the_catalog_do_not_keep_is_told() {
    let mut world = World::builder().quick_clouds().build();
    for (setting, bad, good) in [
        ("appendonly", "no", "yes"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ] {
        world.redis().command(&["CONFIG", "SET", setting, bad]);
        let told = await_code(&world, "redis-durability", "warning");
        assert_hint(&told, &format!("set {setting} {good}"));
        world.redis().command(&["CONFIG", "SET", setting, good]);
        eventually("all is well with Redis", || {
            let all = findings(&world);
            wait::is(all.iter().all(|one| one["code"] != "redis-durability"), all)
        });
    }
    world.catalog_mut().set(&[("full_page_writes", "off")]);
    await_code(&world, "catalog-durability", "critical");
    world.redis_mut().kill();
    assert_hint(&await_code(&world, "redis-down", "critical"), "REDIS_URL");
    world.catalog_mut().crash();
    assert_hint(
        &await_code(&world, "catalog-down", "critical"),
        "DATABASE_URL",
    );
}

#[test]
fn what_is_wrong_with_a_cloud_or_the_directory_or_the_settings_is_told() {
    let mut world = World::builder().quick_clouds().build();
    for (fault, code) in [
        (Fault::Refuse, "refused"),
        (Fault::Status(403), "denied"),
        (Fault::Status(404), "no-bucket"),
    ] {
        world.cloud("b2").proxy().fault(fault);
        let told = await_in(&world, code, "critical", "repository b2");
        assert!(told["hint"].is_string(), "{told}");
        world.cloud("b2").proxy().pass();
    }
    let read = |world: &World| {
        findings(world)
            .into_iter()
            .filter(|one| one["code"] == "permissions")
            .collect::<Vec<_>>()
    };
    assert!(
        read(&world).iter().all(|one| one["level"] == "ok"),
        "{:?}",
        read(&world)
    );
    let archive = world.archive();
    let missing = world.folder().join("nowhere").display().to_string();
    world.set_variable("WAL_ARCHIVE_DIR", &missing);
    await_in(&world, "directory", "unknown", &missing);
    world.set_variable("WAL_ARCHIVE_DIR", &archive.display().to_string());
    world.set("archive.level", "11");
    assert_hint(
        &await_code(&world, "configuration", "critical"),
        "config check",
    );
}

#[test]
fn what_is_wrong_with_files_and_segments_is_told() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.not_yet", "1s")
        .build();
    let worker = world.worker();
    for number in [1, 2, 4] {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    world.await_archived();
    let gap = await_code(&world, "gap", "critical");
    assert!(
        gap["message"]
            .as_str()
            .unwrap_or("")
            .contains(&MAKER.name(3)),
        "{gap}"
    );
    await_code(&world, "no-base-backup", "warning");
    world.set("thresholds.directory_use", "0.0001%");
    await_code(&world, "directory-full", "critical");

    world.cloud("b2").proxy().fault(Fault::Refuse);
    world.hand_over(&MAKER.name(5), &MAKER.bytes(5, Fill::Light));
    await_in(&world, "cloud-behind", "critical", "b2");
    await_in(&world, "directory-grows", "warning", "b2");
    await_code(&world, "failures", "warning");
    world.set("thresholds.rpo", "1s");
    let rpo = await_in(&world, "rpo", "critical", "cluster main");
    assert!(
        rpo["message"]
            .as_str()
            .unwrap_or("")
            .contains("1 files wait"),
        "{rpo}"
    );
    world.set("thresholds.failures_window", "1s");
    eventually("a failure outside the window is no finding", || {
        world.rows("UPDATE copies SET failed_at = failed_at - interval '2 s'; UPDATE wal_files SET failed_at = failed_at - interval '2 s'");
        let all = findings(&world);
        wait::is(all.iter().all(|one| one["code"] != "failures"), all)
    });

    world.place(&MAKER.name(6), &MAKER.bytes(6, Fill::Light)[..1000]);
    let quarantined = await_code(&world, "quarantined", "critical");
    assert_hint(&quarantined, "walferry quarantine move");

    // Three claims of the file ended in a crash.
    worker.terminate();
    worker.wait();
    world.rows(&format!(
        "UPDATE wal_files SET crashes = 3 WHERE name = '{}'",
        MAKER.name(5)
    ));
    let troubled = await_code(&world, "troubled", "critical");
    let message = troubled["message"].as_str().unwrap_or("");
    assert!(
        message.contains(&MAKER.name(5)) && message.contains("3 crashes"),
        "{troubled}"
    );
}

#[test]
fn while_a_cloud_is_away_status_says_when_the_directory_is_full_from_its_first_minute_on() {
    let mut world = World::builder().quick_clouds().build();
    world.worker();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.await_archived();
    let directory = |world: &World| {
        let status = world.cli(&["--json", "status"]).json();
        status["clusters"][0]["directories"][0].clone()
    };
    assert_eq!(directory(&world)["full_in_seconds"], Value::Null);
    world.cloud("b2").proxy().fault(Fault::Refuse);
    world.hand_over(&MAKER.name(2), &MAKER.bytes(2, Fill::Light));
    eventually("status says how long the directory lasts", || {
        let directory = directory(&world);
        wait::is(directory["full_in_seconds"].is_number(), directory)
    });
    let text = world.cli(&["status"]).stdout;
    assert!(text.contains("full in about"), "{text}");
}

#[test]
fn whose_prefix_it_is_and_which_server_is_told() {
    let mut world = World::builder().quick_clouds().build();
    world.worker();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.await_archived();
    // The catalog's own server archives nothing, and is another system.
    let other = world.catalog().url("postgres");
    world.set("clusters.main.connection", &other);
    await_in(&world, "other-system", "critical", "server of main");
    await_code(&world, "archive-off", "critical");
    await_code(&world, "archive-timeout", "warning");

    let b2 = world.cloud("b2").bucket();
    b2.put("wal/walferry-owner.json", b"{");
    await_in(&world, "owner-mark", "critical", "repository b2");
    b2.delete("wal/walferry-owner.json");
    let told = await_in(&world, "not-imported", "critical", "repository b2");
    assert_hint(&told, "walferry import --dry-run");
}

#[test]
fn a_catalog_on_the_server_that_it_protects_is_told() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("catalog.allow_same_server", "true")
        .build();
    let maker = Maker {
        system_id: world.catalog().system_id(),
        ..MAKER
    };
    world.hand_over(&maker.name(1), &maker.bytes(1, Fill::Light));
    world.worker();
    world.await_archived();
    await_code(&world, "catalog-on-protected-server", "warning");
    world.set("catalog.allow_same_server", "false");
    await_code(&world, "catalog-on-protected-server", "critical");
}

#[test]
fn an_unproven_window_is_told_by_check_and_status() {
    let mut world = World::builder().quick_clouds().build();
    let worker = world.worker();
    for number in 1..9 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    world.await_archived();
    world.rows(&format!(
        "UPDATE wal_files SET mtime = clock_timestamp() - interval '31 days', \
         verified_at = clock_timestamp() - interval '31 days', \
         registered_at = clock_timestamp() - interval '31 days' WHERE name = '{}'",
        MAKER.name(1)
    ));
    // A base backup from within the window proves nothing about the window's beginning.
    let time = chrono::Utc::now().format("%Y-%m-%d %H:%M:%S UTC");
    let place = |offset: u64| format!("0/{:X} (file {})", (4 << 20) + offset, MAKER.name(4));
    let label = format!(
        "START WAL LOCATION: {}\nSTOP WAL LOCATION: {}\nCHECKPOINT LOCATION: 0/{:X}\n\
         BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: {time}\nLABEL: nightly\n\
         START TIMELINE: 1\nSTOP TIME: {time}\nSTOP TIMELINE: 1\n",
        place(0x28),
        place(0x100),
        (4 << 20) + 0x60,
    );
    let name = format!("{}.00000028.backup", MAKER.name(4));
    world.hand_over(&name, label.as_bytes());
    world.await_verified_within(wait::PATIENCE);
    // Retention of its own follows what it archives.
    worker.terminate();
    worker.wait();
    world.cli(&["retention", "apply", "--yes"]).ok();
    let told = await_in(&world, "window-not-proven", "warning", "cluster main");
    assert_hint(&told, "walferry retention plan");
    let status = world.cli(&["status"]);
    assert!(status.stdout.contains("WINDOW NOT PROVEN"), "{status:?}");
    let shown = world.cli(&["--json", "status"]).json();
    let retention = &shown["clusters"][0]["retention"];
    assert_eq!(retention["window_proven"], false, "{shown}");
    assert!(retention["at"].is_string(), "{shown}");
}
