//! PostgreSQL and the worker as two users.

use std::os::unix::fs::chown;

use crate::postgres;
use crate::scratch::{Scratch, mode, set_mode};
use crate::tool::{SHARED, User, WORKER, run_as, text};

fn worker() -> User {
    User {
        uid: WORKER,
        in_group: true,
    }
}

fn stranger() -> User {
    User {
        uid: WORKER + 1,
        in_group: false,
    }
}

fn postgres() -> User {
    User {
        uid: postgres::user(),
        in_group: true,
    }
}

/// An archive directory as the contract wants it, with `mode`.
fn shared(mode: u32) -> Scratch {
    let scratch = Scratch::new();
    chown(scratch.archive(), Some(postgres::user()), Some(SHARED)).expect("root");
    set_mode(&scratch.archive(), mode);
    scratch
}

fn archive(scratch: &Scratch) -> String {
    scratch.archive().to_str().expect("UTF-8").to_owned()
}

#[test]
fn what_postgresql_pushes_the_worker_of_the_group_reads_and_deletes() {
    let scratch = shared(0o2770);
    let source = scratch.source(&postgres::made().segment());
    let name = source.file_name().unwrap().to_str().unwrap();
    let pushed = run_as(
        postgres(),
        &scratch,
        &["push", &archive(&scratch), source.to_str().unwrap()],
    );
    assert_eq!(text(&pushed).trim(), "Stored");
    assert_eq!(mode(&scratch.archive().join(name)), 0o640);
    let good = format!("{name} good\n");
    assert_eq!(
        text(&run_as(
            worker(),
            &scratch,
            &["inspect", &archive(&scratch)]
        )),
        good
    );
    let deleted = run_as(worker(), &scratch, &["delete", &archive(&scratch), name]);
    assert_eq!(text(&deleted).trim(), "Unlinked");
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
fn the_worker_puts_aside_what_postgresql_owns_and_both_can_look_at_it() {
    let scratch = shared(0o2770);
    let source = scratch.source(&postgres::made().segment());
    let name = source.file_name().unwrap().to_str().unwrap();
    run_as(
        postgres(),
        &scratch,
        &["push", &archive(&scratch), source.to_str().unwrap()],
    );
    let moved = run_as(
        worker(),
        &scratch,
        &["quarantine", &archive(&scratch), name],
    );
    assert!(text(&moved).contains("quarantine/"), "{}", text(&moved));
    assert_eq!(mode(&scratch.archive().join("quarantine")), 0o2770);
    // And the other way round, in the folder that the other user has made.
    let again = run_as(
        postgres(),
        &scratch,
        &["push", &archive(&scratch), source.to_str().unwrap()],
    );
    assert_eq!(text(&again).trim(), "Stored");
    let moved = run_as(
        postgres(),
        &scratch,
        &["quarantine", &archive(&scratch), name],
    );
    assert!(
        text(&moved).contains(&format!("{name}.2")),
        "{}",
        text(&moved)
    );
}

#[test]
fn the_history_ledger_serves_two_users() {
    let scratch = shared(0o2770);
    scratch.source(&postgres::made().history());
    let segment = scratch.source(&postgres::made().later_segment());
    for (user, told) in [(worker(), "Stored"), (postgres(), "AlreadyThere")] {
        let pushed = run_as(
            user,
            &scratch,
            &["push", &archive(&scratch), segment.to_str().unwrap()],
        );
        assert_eq!(text(&pushed).trim(), told);
    }
    let changed = b"1\t0/5000000\tof another promotion\n";
    std::fs::write(scratch.pg_wal().join("00000002.history"), changed).unwrap();
    std::fs::remove_file(scratch.archive().join("00000002.history")).unwrap();
    let pushed = run_as(
        postgres(),
        &scratch,
        &["push", &archive(&scratch), segment.to_str().unwrap()],
    );
    assert_eq!(text(&pushed).trim(), "AlreadyThere");
    assert_eq!(scratch.read("00000002.history"), changed);
}

#[test]
fn a_file_of_basic_archive_is_unreadable_with_owner_and_mode_and_not_yet_an_error() {
    let scratch = shared(0o2770);
    let path = scratch.put("000000010000000000000001", b"x");
    chown(&path, Some(postgres::user()), Some(SHARED)).unwrap();
    set_mode(&path, 0o600);
    let looked = run_as(worker(), &scratch, &["inspect", &archive(&scratch)]);
    assert_eq!(text(&looked), "000000010000000000000001 unreadable\n");
    let checked = text(&run_as(worker(), &scratch, &["check", &archive(&scratch)]));
    let line = checked
        .lines()
        .find(|line| line.starts_with("Missing read"))
        .expect(&checked);
    for part in [
        "000000010000000000000001",
        "mode 0600",
        "owner",
        "initdb --allow-group-access",
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert!(checked.contains("Ok delete"), "{checked}");
}

#[test]
fn check_says_which_permission_is_missing() {
    for (mode, user, severity, what, told) in [
        (0o2770, worker(), "Ok", "mode", "mode 2770"),
        (0o2770, worker(), "Ok", "delete", "may delete"),
        (0o777, worker(), "Warning", "mode", "anybody may write"),
        (0o777, worker(), "Ok", "delete", "may delete"),
        (0o1777, worker(), "Missing", "delete", "chmod -t"),
        (0o755, worker(), "Missing", "delete", "mode 0755"),
        (0o755, worker(), "Warning", "mode", "not shared"),
        (0o2750, worker(), "Missing", "delete", "chmod 2770"),
    ] {
        let scratch = shared(mode);
        let checked = text(&run_as(user, &scratch, &["check", &archive(&scratch)]));
        let wanted = format!("{severity} {what}:");
        let line = checked.lines().find(|line| line.starts_with(&wanted));
        assert!(
            line.is_some_and(|line| line.contains(told)),
            "{mode:o}: {wanted} {told}: {checked}"
        );
        assert_eq!(scratch.names(), [""; 0], "the probe is gone");
    }
    let scratch = shared(0o2770);
    let refused = run_as(stranger(), &scratch, &["check", &archive(&scratch)]);
    assert!(!refused.status.success());
    let told = text(&refused);
    for part in ["may not be read: owner ", "mode 2770", "HINT: chgrp "] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn a_push_without_permission_is_refused_with_the_way_out() {
    let scratch = shared(0o2750);
    let source = scratch.source(&postgres::made().segment());
    let refused = run_as(
        worker(),
        &scratch,
        &["push", &archive(&scratch), source.to_str().unwrap()],
    );
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("HINT: "), "{}", text(&refused));
    assert_eq!(scratch.names(), [""; 0]);
}
