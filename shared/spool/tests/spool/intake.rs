//! The three ways in which PostgreSQL hands over, each with a worker of another user.

use std::os::unix::fs::chown;

use crate::postgres::{self, Server};
use crate::scratch::{Scratch, mode, set_mode};
use crate::tool::{SHARED, User, WORKER, run_as, text, tool_in};

fn shared() -> Scratch {
    let scratch = Scratch::new();
    chown(scratch.archive(), Some(postgres::user()), Some(SHARED)).expect("this test needs root");
    set_mode(&scratch.archive(), 0o2770);
    scratch
}

/// Ends three segments; each has to arrive, good, for the worker's user.
fn hands_over(scratch: &Scratch, server: &Server, expected_mode: u32) {
    let worker = User {
        uid: WORKER,
        in_group: true,
    };
    let archive = scratch.archive();
    let archive = archive.to_str().expect("UTF-8");
    let names = [server.switch(), server.switch(), server.switch()];
    let looked = text(&run_as(worker, scratch, &["inspect", archive]));
    for name in &names {
        assert!(looked.contains(&format!("{name} good\n")), "{looked}");
        assert_eq!(mode(&scratch.archive().join(name)), expected_mode);
        let in_pg_wal = server.data().join("pg_wal").join(name);
        if let Ok(original) = std::fs::read(in_pg_wal) {
            assert_eq!(scratch.read(name), original);
        }
        let deleted = run_as(worker, scratch, &["delete", archive, name]);
        assert_eq!(text(&deleted).trim(), "Unlinked");
    }
}

#[test]
fn archive_command_push() {
    let scratch = shared();
    for size in [1, 16, 64] {
        let command = format!(
            "archive_command = '{} push {} %p'",
            tool_in(scratch.path()).display(),
            scratch.archive().display()
        );
        let server = Server::new(&[&format!("--wal-segsize={size}")], &command);
        hands_over(&scratch, &server, 0o640);
        let left = scratch.names();
        drop(server);
        assert!(
            left.is_empty() || left.iter().all(|name| name.len() == 24),
            "{left:?}"
        );
        for name in left {
            std::fs::remove_file(scratch.archive().join(name)).unwrap();
        }
    }
}

#[test]
fn archive_command_cp_of_the_old_system() {
    let scratch = shared();
    let archive = scratch.archive();
    let archive = archive.display();
    let command = format!(
        "archive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f && chmod 644 {archive}/%f'"
    );
    hands_over(
        &scratch,
        &Server::new(&["--wal-segsize=1"], &command),
        0o644,
    );
}

#[test]
fn archive_library_basic_archive_of_a_cluster_with_group_access() {
    let scratch = shared();
    let configuration = format!(
        "archive_library = 'basic_archive'\nbasic_archive.archive_directory = '{}'",
        scratch.archive().display()
    );
    let server = Server::new(&["--wal-segsize=1", "--allow-group-access"], &configuration);
    hands_over(&scratch, &server, 0o640);
}

#[test]
fn a_full_directory_keeps_the_segment_in_pg_wal_and_archiving_goes_on_afterwards() {
    let scratch = shared();
    let gate = scratch.path().join("gate");
    // The tool has no limit; a directory that may not be written refuses as a full one does.
    let command = format!(
        "archive_command = '{} push {} %p'",
        tool_in(scratch.path()).display(),
        gate.display()
    );
    let server = Server::new(&["--wal-segsize=1"], &command);
    server.query("create table t (n int)");
    let name = server.query("select pg_walfile_name(pg_switch_wal())");
    postgres::eventually("the archiver has failed", || {
        server.query("select failed_count > 0 from pg_stat_archiver") == "t"
    });
    assert!(server.data().join("pg_wal").join(&name).exists());
    std::os::unix::fs::symlink(scratch.archive(), &gate).unwrap();
    server.switch();
    let names = scratch.names();
    assert!(names.contains(&name), "{names:?}");
}
