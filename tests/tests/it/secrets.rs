//! No secret in anything that a run leaves behind, whichever way it was given and whatever
//! went wrong: logs, pages, what commands say, panics, arguments, Redis, the catalog, the
//! archive directory, the buckets.

mod left;
mod search;

use std::collections::BTreeMap;

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Fault, Rule, User, World, eventually, process, wait};

use left::Left;
use search::Search;

/// How a program is told its secrets.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Environment,
    Files,
    Toml,
}

/// Setting, the old system's variable (or ours), and what nobody may ever see of it.
const SECRETS: [(&str, &str, &str); 8] = [
    ("catalog.url", "DATABASE_URL", "c@talog/planted-pw"),
    (
        "clusters.main.connection",
        "WALFERRY_CLUSTERS_MAIN_CONNECTION",
        "s@rver/planted-pw",
    ),
    ("redis.url", "REDIS_URL", "r@dis/planted-pw"),
    (
        "repositories.r2.access_key_id",
        "CLOUDFLARE_R2_ACCESS_KEY_ID",
        "id-of-r2",
    ),
    (
        "repositories.r2.secret_access_key",
        "CLOUDFLARE_R2_SECRET_ACCESS_KEY",
        "secret-of-r2-0123456789",
    ),
    (
        "repositories.b2.access_key_id",
        "BACKBLAZE_B2_KEY_ID",
        "id-of-b2",
    ),
    (
        "repositories.b2.secret_access_key",
        "BACKBLAZE_B2_APPLICATION_KEY",
        "secret-of-b2-0123456789",
    ),
    (
        "clusters.main.replication",
        "WALFERRY_CLUSTERS_MAIN_REPLICATION",
        "b@ckup/planted-pw",
    ),
];

/// Given instead of the right ones, to be refused.
const WRONG: [(&str, &str); 3] = [
    ("catalog.url", "wr@ng/catalog-pw"),
    ("redis.url", "wr@ng/redis-pw"),
    (
        "repositories.b2.secret_access_key",
        "wrong-secret-of-b2-012345",
    ),
];

const COMMANDS: [&[&str]; 15] = [
    &["status"],
    &["check"],
    &["config", "check"],
    &["workers"],
    &["ls"],
    &["gaps"],
    &["quarantine", "ls"],
    &["queue", "stats"],
    &["queue", "ls", "--state", "ready"],
    &["queue", "ls", "--state", "done"],
    &["retention", "plan"],
    &["retention", "apply", "--dry-run"],
    &["import", "--dry-run"],
    &["enqueue", "retention", "--dry-run"],
    &["catalog", "migrate", "--dry-run"],
];

/// `scheme://…` with a user and a password, its odd characters escaped as they must be.
fn with_password(url: &str, user: &str, password: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{user}:{}@{host}", search::percent(password))
}

/// Tells the programs that start from now on what `values` are.
fn give(world: &mut World, way: Way, values: &BTreeMap<&str, String>) {
    let folder = world.folder().join("secrets");
    std::fs::create_dir_all(&folder).expect("a folder for secrets");
    let mut toml = String::new();
    for (name, variable, _) in SECRETS {
        let value = &values[name];
        world.set_variable(variable, "");
        match way {
            Way::Environment => world.set_variable(variable, value),
            Way::Toml => toml.push_str(&format!("{name} = \"{value}\"\n")),
            Way::Files => {
                let path = folder.join(name);
                std::fs::write(&path, format!("{value}\n")).expect("write a secret");
                world.set_variable(&format!("{variable}_FILE"), &path.display().to_string());
            }
        }
    }
    if way == Way::Toml {
        let path = folder.join("walferry.toml");
        std::fs::write(&path, toml).expect("write the configuration");
        world.set_variable("WALFERRY_CONFIG", &path.display().to_string());
    }
}

/// Runs every command, and keeps what it says.
fn ask_all(world: &World, when: &str, left: &mut Left) {
    for arguments in COMMANDS {
        for json in [&[][..], &["--json"]] {
            let said = world.cli(&[json, arguments].concat());
            let what = format!("{} {when}", arguments.join(" "));
            left.add(what, said.stdout + &said.stderr);
        }
    }
}

/// A worker that may open next to no file panics when it has read its configuration.
fn panic_on_purpose(world: &World, left: &mut Left) {
    let mut command = User::Walferry.command("/usr/bin/prlimit");
    process::environment(&mut command, world.environment());
    command.env("RUST_BACKTRACE", "full").arg("--nofile=7");
    let ended = process::run(command.arg(world.program_path("walferry-worker")));
    assert!(ended.stderr.contains("panicked at"), "{ended:?}");
    left.add("a panic", ended.stdout + &ended.stderr);
}

fn nothing_leaks(way: Way) {
    let mut world = World::builder()
        .quick_clouds()
        .setting("log.level", "trace")
        .setting("archive.retry_base", "200ms")
        .setting("archive.retry_max", "1s")
        .build();
    let mut search = Search::default();
    for (name, _, secret) in SECRETS {
        search.plant(name, secret);
    }
    for (name, secret) in WRONG {
        search.plant(name, secret);
    }
    search.prove(&world);

    let catalog = world.environment()["DATABASE_URL"].clone();
    let redis = world.redis().url();
    let password = format!(">{}", SECRETS[2].2);
    world.redis().command(&[
        "ACL", "SETUSER", "walferry", "on", &password, "~*", "&*", "+@all",
    ]);
    let mut values: BTreeMap<&str, String> = SECRETS
        .iter()
        .map(|(name, _, secret)| {
            let value = match *name {
                "catalog.url" | "clusters.main.connection" | "clusters.main.replication" => {
                    with_password(&catalog, "postgres", secret)
                }
                "redis.url" => with_password(&redis, "walferry", secret),
                _ => (*secret).to_owned(),
            };
            (*name, value)
        })
        .collect();
    for cloud in world.clouds() {
        let keys = cloud.credentials();
        let name = cloud.name();
        let given = |setting| &values[format!("repositories.{name}.{setting}").as_str()];
        assert_eq!(given("access_key_id"), &keys.id, "of the harness");
        assert_eq!(given("secret_access_key"), &keys.secret, "of the harness");
    }
    give(&mut world, way, &values);
    let mut left = Left::default();

    // Everything works.
    let maker = Maker::new(7_300_000_000_000_000_061);
    let programs = [world.worker(), world.scheduler()];
    let pushed = world.source(&maker.name(1), &maker.bytes(1, Fill::Empty));
    let pushed = world.push(&pushed);
    assert_eq!(pushed.code, 0, "{pushed:?}");
    left.add("push", pushed.stdout + &pushed.stderr);
    world.await_archived();
    ask_all(&world, "when all is well", &mut left);
    panic_on_purpose(&world, &mut left);

    // A cloud refuses, so that a file waits and rows say why.
    let refuse = Rule::new(Fault::Status(403));
    world.cloud("b2").proxy().fault(refuse);
    world.hand_over(&maker.name(2), &maker.bytes(2, Fill::Empty));
    eventually("status names the cause", || {
        let said = world.cli(&["status"]).stdout;
        wait::is(said.contains("denied"), said)
    });
    ask_all(&world, "when b2 refuses", &mut left);
    left.pages(&programs);
    left.arguments(&programs);
    left.servers(&world);
    world.cloud("b2").proxy().pass();
    world.await_archived();
    left.servers(&world);
    for program in &programs {
        program.terminate();
        program.wait();
    }

    // The wrong ones, all at once.
    let right = values.clone();
    for (name, secret) in WRONG {
        let value = match name {
            "catalog.url" => with_password(&catalog, "nobody-at-all", secret),
            "redis.url" => with_password(&redis, "walferry", secret),
            _ => secret.to_owned(),
        };
        values.insert(name, value);
    }
    give(&mut world, way, &values);
    ask_all(&world, "with wrong secrets", &mut left);
    let refused = ["worker", "scheduler"].map(|role| world.start(role, &[]));
    for program in &refused {
        program.await_log("Password authentication failed");
        program.kill();
    }

    // Nobody answers.
    give(&mut world, way, &right);
    world.catalog_mut().crash();
    world.redis_mut().kill();
    world.cloud("r2").proxy().fault(Fault::Refuse);
    ask_all(&world, "with all servers down", &mut left);
    let lost = ["worker", "scheduler"].map(|role| world.start(role, &[]));
    for program in &lost {
        program.await_log("Connection refused");
        eventually("it answers", || program.http("/readyz"));
    }
    left.pages(&lost);
    for program in &lost {
        program.kill();
    }
    left.logs(&world);
    search.finds_nothing_in(&left);
}

#[test]
fn secrets_of_the_environment_are_in_nothing_that_a_run_leaves_behind() {
    nothing_leaks(Way::Environment);
}

#[test]
fn secrets_of_files_are_in_nothing_that_a_run_leaves_behind() {
    nothing_leaks(Way::Files);
}

#[test]
fn secrets_of_the_configuration_file_are_in_nothing_that_a_run_leaves_behind() {
    nothing_leaks(Way::Toml);
}
