//! The permission contract as `walferry check` tells it, and the old 0777 directory.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Intake, User, World, eventually, users, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_043,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// Sets a mode, whatever the umask.
pub(crate) fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

/// What `check` says about the archive directory, as walferry's user.
fn findings(world: &World) -> Vec<Value> {
    let check = world.cli(&["--json", "check"]).json();
    let what = format!("directory {}", world.archive().display());
    let findings = check["findings"].as_array().expect("a list");
    let ours = findings.iter().filter(|one| one["what"] == what.as_str());
    ours.filter(|one| one["code"] == "permissions")
        .cloned()
        .collect()
}

#[track_caller]
fn expect(findings: &[Value], level: &str, what: &str, message: &[&str], hint: &str) {
    let found = findings.iter().find(|one| {
        let told = one["message"].as_str().unwrap_or_default();
        one["level"] == level
            && told.starts_with(what)
            && message.iter().all(|part| told.contains(part))
    });
    let found = found.unwrap_or_else(|| panic!("{level} {what} {message:?}: {findings:#?}"));
    let told = found["hint"].as_str().unwrap_or_default();
    assert!(told.contains(hint), "{hint}: {found}");
}

#[test]
fn check_tries_to_read_and_to_delete_and_says_which_is_missing() {
    users::need_two_users();
    let world = World::builder().bare().build();
    let archive = world.archive();
    world.place(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    let found = findings(&world);
    assert!(found.iter().all(|one| one["level"] == "ok"), "{found:#?}");
    expect(&found, "ok", "read: ", &["may read", "1 files tried"], "");
    expect(&found, "ok", "delete: ", &["may delete"], "");

    let owner = "owner postgres";
    chmod(&archive, 0o755);
    let found = findings(&world);
    expect(
        &found,
        "critical",
        "delete: ",
        &[owner, "mode 0755"],
        "chmod 2770",
    );
    expect(&found, "ok", "read: ", &[], "");

    chmod(&archive, 0o1777);
    expect(
        &findings(&world),
        "critical",
        "delete: ",
        &[owner, "mode 1777"],
        "chmod -t",
    );

    chmod(&archive, 0o2770);
    chmod(&archive.join(MAKER.name(1)), 0o600);
    let found = findings(&world);
    let message = [&MAKER.name(1), owner, "mode 0600"];
    expect(
        &found,
        "critical",
        "read: ",
        &message,
        "initdb --allow-group-access",
    );

    chmod(&archive, 0o700);
    let found = findings(&world);
    expect(
        &found,
        "critical",
        "archive directory",
        &["may not be read", owner, "mode 0700"],
        "chmod 2770",
    );
    let names = world.archived_files();
    assert_eq!(
        names,
        [MAKER.name(1)],
        "the file that check tries with is gone"
    );
}

/// The old system's directory, which belongs to no group of the worker's, under two users.
fn check_old_directory(intake: Intake, file_mode: Option<&str>) {
    users::need_two_users();
    let mut world = World::builder()
        .quick_clouds()
        .walferry_as(User::Stranger)
        .build();
    User::Postgres.own(&world.archive(), None);
    chmod(&world.archive(), 0o777);
    let mut settings = world
        .protected("protected", intake)
        .initdb("--wal-segsize=1");
    if let Some(mode) = file_mode {
        let push = format!("WALFERRY_SPOOL_FILE_MODE={mode} {}", world.push_command());
        settings = settings.option("archive_command", &push);
    }
    let server = world.postgres_with(settings);
    server.switch();
    let last = server.switch();
    eventually("the server has handed over its last segment", || {
        let archived = server.archiver("last_archived_wal");
        wait::is(archived == last, archived)
    });
    let found = findings(&world);
    let message = ["anybody may write", "owner postgres", "mode 0777"];
    expect(
        &found,
        "warning",
        "mode: ",
        &message,
        "spool.file_mode = 0644",
    );
    expect(&found, "ok", "read: ", &[], "");
    expect(&found, "ok", "delete: ", &[], "");
    world.worker();
    world.originals_mut().remember_archived_by(&server);
    world.await_archived();
}

#[test]
fn the_old_0777_directory_works_with_cp_and_is_warned_of() {
    check_old_directory(Intake::Cp, None);
}

#[test]
fn the_old_0777_directory_works_with_push_that_sets_0644_and_is_warned_of() {
    check_old_directory(Intake::Push, Some("0644"));
}
