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

#[test]
fn config_check_tells_every_problem_and_where_each_value_came_from() {
    let mut world = World::builder().bare().build();
    let file = world.folder().join("walferry.toml");
    std::fs::write(&file, "[archive]\nlevel = 6\n[retention]\ndays = 'many'\n").expect("write");
    let file = file.display().to_string();
    world.set_variable("WALFERRY_CONFIG", &file);
    world.set("log.level", "debug");
    world.set_variable("CLOUDFLARE_R2_SECRET_ACCESS_KEY", "hunter2hunter2");
    let flag = ["--set", "thresholds.rpo=5m", "config", "check"];

    let shown = world.cli(&flag);
    assert_eq!(shown.code, 1, "{shown:?}");
    let checked = world.cli(&[&["--json"], &flag[..]].concat()).json();
    let settings = checked["settings"].as_array().expect("a list");
    for (name, value, origin) in [
        ("archive.level", "6", format!("{file}:2")),
        (
            "log.level",
            "debug",
            "environment WALFERRY_LOG_LEVEL".into(),
        ),
        ("thresholds.rpo", "5m", "flag --set".into()),
        ("archive.verify", "head", "default".into()),
        ("redis.url", "", "not set".into()),
        (
            "repositories.r2.secret_access_key",
            "***",
            "environment CLOUDFLARE_R2_SECRET_ACCESS_KEY".into(),
        ),
    ] {
        let setting = settings.iter().find(|setting| setting["name"] == name);
        let setting = setting.unwrap_or_else(|| panic!("{name}: {checked:#}"));
        assert_eq!(setting["value"], value, "{setting}");
        assert_eq!(setting["origin"], origin.as_str(), "{setting}");
        let line = shown.stdout.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name}: {}", shown.stdout));
        assert!(line.contains(value) && line.ends_with(&origin), "{line}");
    }
    let problems: Vec<&str> = checked["problems"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(serde_json::Value::as_str)
        .collect();
    for problem in [
        format!("`retention.days` ({file}:4)"),
        "`catalog.url`: not set".into(),
    ] {
        let told = |text: &str| text.contains(&problem);
        assert!(
            problems.iter().any(|line| told(line)),
            "{problem}: {problems:#?}"
        );
        assert!(told(&shown.stdout), "{problem}: {}", shown.stdout);
    }
    let everything = format!("{shown:?} {checked}");
    assert!(!everything.contains("hunter2"), "{everything}");
}

/// `postgres://USER@…` with a password, which a server that trusts everybody does not ask for.
fn with_password(url: &str, password: &str) -> String {
    url.replacen('@', &format!(":{password}@"), 1)
}

#[test]
fn no_password_in_a_url_is_logged_or_shown_whether_its_server_answers_or_not() {
    const PLANTED: [&str; 3] = ["planted-catalog", "planted-server", "planted-redis"];
    const COMMANDS: [&[&str]; 8] = [
        &["status"],
        &["check"],
        &["workers"],
        &["ls"],
        &["queue", "stats"],
        &["retention", "plan"],
        &["catalog", "migrate", "--dry-run"],
        &["config", "check"],
    ];
    let mut world = World::builder()
        .quick_clouds()
        .setting("log.level", "trace")
        .build();
    let [catalog, server] = [PLANTED[0], PLANTED[1]]
        .map(|password| with_password(&world.environment()["DATABASE_URL"], password));
    world.set_variable("DATABASE_URL", &catalog);
    world.set("clusters.main.connection", &server);
    let user = format!(">{}", PLANTED[2]);
    world.redis().command(&[
        "ACL", "SETUSER", "walferry", "on", &user, "~*", "&*", "+@all",
    ]);
    let redis = world
        .redis()
        .url()
        .replacen("://", &format!("://walferry:{}@", PLANTED[2]), 1);
    world.set_variable("REDIS_URL", &redis);

    let mut said: Vec<(String, String)> = Vec::new();
    let mut programs = vec![world.worker(), world.scheduler()];
    let maker = walferry_tests::wal::Maker::new(7_300_000_000_000_000_044);
    world.hand_over(
        &maker.name(1),
        &maker.bytes(1, walferry_tests::wal::Fill::Empty),
    );
    world.await_archived();
    let run_all = |world: &World, said: &mut Vec<(String, String)>| {
        for arguments in COMMANDS {
            for json in [&[][..], &["--json"]] {
                let finished = world.cli(&[json, arguments].concat());
                said.push((arguments.join(" "), finished.stdout + &finished.stderr));
            }
        }
    };
    run_all(&world, &mut said);
    for program in &programs {
        for page in ["/readyz", "/metrics"] {
            let (_, body) = program.http(page).expect("an answer");
            said.push((page.to_owned(), body));
        }
        program.terminate();
        program.wait();
    }

    world.catalog_mut().crash();
    world.redis_mut().kill();
    run_all(&world, &mut said);
    let lost = [world.start("worker", &[]), world.start("scheduler", &[])];
    for program in &lost {
        program.await_log("Connection refused");
        let (_, body) = eventually("it answers", || program.http("/readyz"));
        said.push((format!("/readyz of {}", program.name()), body));
        program.kill();
    }
    programs.extend(lost);
    for program in programs {
        said.push((program.name(), program.log()));
    }
    for (what, text) in said {
        for secret in PLANTED {
            assert!(
                !text.contains(secret),
                "{secret} stands in what `{what}` says:\n{text}"
            );
        }
    }
}
