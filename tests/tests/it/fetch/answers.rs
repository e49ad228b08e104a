//! 0, 1 or 200.

use walferry_tests::{Fault, Rule, User, process};

use super::{HISTORY, MAKER, archived, check, fetch, spot};

const BEHIND: u64 = 7;

#[test]
fn every_kind_of_file_is_delivered_without_catalog_and_redis() {
    let world = archived();
    let spot = spot(&world);
    let partial = format!("{}.partial", MAKER.name(6));
    for name in [&MAKER.name(1), &MAKER.name(5), &partial, HISTORY] {
        check(&world, &spot, &[name], 0, "");
    }
    // Whatever lies there is replaced.
    std::fs::write(spot.join("RECOVERYXLOG"), "old").expect("write");
    User::Postgres.own(&spot.join("RECOVERYXLOG"), None);
    check(&world, &spot, &[&MAKER.name(2)], 0, "");
    // From a file, with nothing in the environment.
    let toml = world.folder().join("fetch.toml");
    let section = |name: &str| {
        let cloud = world.cloud(name);
        let keys = cloud.credentials();
        format!(
            "[repositories.{name}]\nendpoint = \"{}\"\nbucket = \"{}\"\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\nregion = \"{}\"\n",
            cloud.endpoint(),
            cloud.bucket().name(),
            keys.id,
            keys.secret,
            keys.region,
        )
    };
    std::fs::write(&toml, section("r2") + &section("b2")).expect("write");
    User::Postgres.own(&toml, None);
    let mut command = User::Postgres.command(world.program_path("walferry"));
    command
        .env_clear()
        .current_dir(&spot)
        .arg("--config")
        .arg(&toml)
        .args(["fetch", &MAKER.name(3), "RECOVERYXLOG"]);
    process::run(&mut command).ok();
}

#[test]
fn absent_is_said_only_when_everybody_has_shown_it() {
    let mut world = archived();
    let spot = spot(&world);
    let behind = MAKER.name(BEHIND);
    check(&world, &spot, &[&behind], 1, "");
    check(&world, &spot, &["00000004.history"], 1, "");
    // Later files of its timeline, or its descendants, say that it existed.
    check(&world, &spot, &[&MAKER.name(4)], 200, "HINT");
    check(&world, &spot, &["00000001.history"], 1, "");
    for cloud in world.clouds() {
        let later = [MAKER.name(5), format!("{}.partial", MAKER.name(6))];
        for name in later {
            cloud.bucket().delete(&format!("wal/{name}.gz"));
        }
    }
    check(&world, &spot, &[&MAKER.name(4)], 200, HISTORY);

    let last = MAKER.name(3);
    let asked = ["--repository", "b2", "--last", &last];
    let of = |name: &'static str| [&asked[..], &[name]].concat();
    check(&world, &spot, &of("000000010000000000000004"), 1, "");
    check(&world, &spot, &of("00000004.history"), 1, "");
    world.cloud("b2").bucket().delete(&format!("wal/{last}.gz"));
    check(&world, &spot, &of("000000010000000000000003"), 200, "HINT");

    for fault in [
        Fault::Refuse,
        Fault::Status(403),
        Fault::Status(503),
        Fault::BucketGone,
        Fault::KeyRevoked,
        Fault::DropResponse,
    ] {
        let told = format!("{fault:?}");
        world.cloud("b2").proxy().fault(fault);
        check(&world, &spot, &[&behind], 200, "b2");
        // Asked alone, the other one's word is enough.
        check(&world, &spot, &["--repository", "r2", &behind], 1, "");
        // A standby asks again.
        check(&world, &spot, &["--standby", &behind], 1, "asks again");
        world.cloud("r2").proxy().fault(Fault::Refuse);
        check(&world, &spot, &[&MAKER.name(1)], 200, "r2");
        world.cloud("r2").proxy().pass();
        world.cloud("b2").proxy().pass();
        check(&world, &spot, &[&behind], 1, "");
        assert!(!told.is_empty());
    }
    world.set_variable("WALFERRY_CLUSTERS_MAIN_PREFIX", "elsewhere/");
    check(&world, &spot, &[&behind], 200, "elsewhere/");
    world.set_variable("WALFERRY_CLUSTERS_MAIN_PREFIX", "wal/");
    world.set_variable("BACKBLAZE_B2_BUCKET", "misspelt");
    check(&world, &spot, &[&behind], 200, "the bucket does not exist");
}

#[test]
fn what_cannot_be_understood_is_200_and_never_the_end_of_wal() {
    let world = archived();
    let spot = spot(&world);
    let name = MAKER.name(1);
    for arguments in [
        &["--no-such-flag", &name, "RECOVERYXLOG"][..],
        &[&name],
        &[],
        &["no-wal-file", "RECOVERYXLOG"],
        &["--repository", "nowhere", &name, "RECOVERYXLOG"],
        &["--cluster", "nobody", &name, "RECOVERYXLOG"],
        &[&name, "no/such/directory/RECOVERYXLOG"],
    ] {
        let said = fetch(&world, &spot, arguments).fails_with(200);
        assert!(!said.is_empty(), "{arguments:?} says why");
    }
    let program = world.program_path("walferry");
    // Nothing configured, also where the word is misspelt; no file handles.
    let mut bare = User::Postgres.command(&program);
    bare.env_clear().current_dir(&spot);
    process::run(bare.args(["fetch", &name, "RECOVERYXLOG"])).fails_with(200);
    let mut misspelt = User::Postgres.command(&program);
    misspelt.env_clear().current_dir(&spot);
    process::run(misspelt.args(["fetsch", &name, "RECOVERYXLOG"])).fails_with(200);
    // With fewer not even the program's libraries are loaded: 127, which stops recovery as well.
    for handles in [4, 6, 8, 10] {
        let mut poor = User::Postgres.command("/bin/sh");
        process::environment(&mut poor, world.environment());
        let script = format!("ulimit -n {handles}; exec \"$0\" fetch {name} RECOVERYXLOG");
        poor.current_dir(&spot).args(["-c", &script]).arg(&program);
        let code = process::run(&mut poor).code;
        assert!([127, 200].contains(&code), "{handles}: {code}");
    }
    assert!(!spot.join("RECOVERYXLOG").exists());
}

#[test]
fn a_search_goes_on_for_the_setting_and_finds_what_comes_meanwhile() {
    let mut world = archived();
    let spot = spot(&world);
    world.set("fetch.retry_for", "20s");
    for cloud in ["r2", "b2"] {
        let rule = Rule::new(Fault::Status(503)).on("GET").times(3);
        world.cloud(cloud).proxy().fault(rule);
    }
    check(&world, &spot, &[&MAKER.name(2)], 0, "");
}
