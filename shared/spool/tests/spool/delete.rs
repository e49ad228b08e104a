//! Deleting: only the file that was verified, and nothing lost by a crash.

use std::path::Path;

use rustix::fs::FlockOperation;
use walferry_spool::{DeleteError, Deleted, FileId, delete, delete_while, quarantine_list, scan};

use crate::postgres::eventually;
use crate::scratch::{Scratch, set_mode};
use crate::tool;

const NAME: &str = "000000010000000000000001";

fn str(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn the_file_that_was_seen_is_deleted() {
    let scratch = Scratch::new();
    scratch.put(NAME, b"verified");
    let (file, id) = scratch.seen(NAME);
    let directory = scratch.directory();
    assert_eq!(delete(&directory, &file, &id).unwrap(), Deleted::Unlinked);
    assert_eq!(scratch.names(), [""; 0]);
    assert_eq!(delete(&directory, &file, &id).unwrap(), Deleted::Gone);
}

#[test]
fn a_changed_mode_is_no_changed_file() {
    let scratch = Scratch::new();
    let path = scratch.put(NAME, b"verified");
    let (file, id) = scratch.seen(NAME);
    set_mode(&path, 0o600);
    let recorded = FileId::recorded(id.dev, id.ino, id.size, id.mtime_ns);
    let deleted = delete(&scratch.directory(), &file, &recorded).unwrap();
    assert_eq!(deleted, Deleted::Unlinked);
}

#[test]
fn a_file_that_was_replaced_or_written_to_stays() {
    let scratch = Scratch::new();
    let path = scratch.put(NAME, b"verified");
    let (file, id) = scratch.seen(NAME);
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let directory = scratch.directory();
    let stays = |what: &str, content: &[u8]| {
        assert_eq!(
            delete(&directory, &file, &id).unwrap(),
            Deleted::Replaced,
            "{what}"
        );
        assert_eq!(scratch.read(NAME), content, "{what}");
        assert_eq!(scratch.names(), [NAME], "{what}");
    };

    let time = |when| {
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(when).unwrap();
    };
    std::fs::write(&path, b"VERIFIED").unwrap();
    time(modified + std::time::Duration::from_nanos(1));
    stays("written to, a nanosecond later", b"VERIFIED");

    std::fs::write(&path, b"verified and more").unwrap();
    time(modified);
    stays("longer, with the old time", b"verified and more");

    let other = scratch.pg_wal().join("other");
    std::fs::write(&other, b"replaced").unwrap();
    std::fs::rename(&other, &path).unwrap();
    time(modified);
    stays("another inode, same size and time", b"replaced");
}

#[test]
fn a_file_replaced_between_the_look_and_the_rename_is_put_back() {
    let scratch = Scratch::new();
    let path = scratch.put(NAME, b"verified");
    let log = scratch.path().join("trace");
    let mut deleting = tool::strace(
        &log,
        // The tool waits before it renames the file aside; the test replaces it meanwhile.
        &[
            "-e",
            "trace=flock,renameat2",
            "-e",
            "inject=renameat2:delay_enter=2000000:when=1",
        ],
        &["delete", str(&scratch.archive()), NAME],
    )
    .stdout(std::process::Stdio::piped())
    .spawn()
    .expect("strace runs");
    let locked = || std::fs::read_to_string(&log).is_ok_and(|trace| trace.contains("flock("));
    eventually("the file is locked", locked);
    let other = scratch.pg_wal().join("other");
    std::fs::write(&other, b"handed over again").unwrap();
    std::fs::rename(&other, &path).unwrap();
    let status = deleting.wait().unwrap();
    assert!(status.success());
    let mut told = String::new();
    std::io::Read::read_to_string(&mut deleting.stdout.take().unwrap(), &mut told).unwrap();
    assert_eq!(told.trim(), "Replaced");
    assert_eq!(scratch.read(NAME), b"handed over again");
    assert_eq!(scratch.names(), [NAME]);
}

#[test]
fn a_worker_that_lost_its_claim_at_the_last_moment_changes_nothing() {
    let scratch = Scratch::new();
    scratch.put(NAME, b"verified");
    let (file, id) = scratch.seen(NAME);
    let directory = scratch.directory();
    let mut aside = Vec::new();
    let deleted = delete_while(&directory, &file, &id, || {
        aside = scratch.names();
        false
    });
    assert_eq!(deleted.unwrap(), Deleted::Kept);
    assert!(
        aside[0].starts_with(".walferry-delete."),
        "it was asked with the file aside: {aside:?}"
    );
    assert_eq!(scratch.names(), [NAME]);
    assert_eq!(scratch.seen(NAME).1, id);
}

#[test]
fn a_scan_leaves_a_file_aside_alone_while_its_deleter_lives_even_frozen() {
    let scratch = Scratch::new();
    scratch.put(NAME, b"verified");
    let (file, id) = scratch.seen(NAME);
    let directory = scratch.directory();
    let deleted = delete_while(&directory, &file, &id, || {
        // Another worker scans right now.
        let output = tool::run(&["scan", str(&scratch.archive())]);
        assert_eq!(tool::text(&output), "");
        true
    });
    assert_eq!(deleted.unwrap(), Deleted::Unlinked);
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
fn a_delete_killed_at_any_system_call_before_the_unlink_loses_nothing() {
    let prepare = || {
        let scratch = Scratch::new();
        scratch.put(NAME, b"verified");
        scratch
    };
    let kills = tool::kills(&["delete", str(&prepare().archive()), NAME]);
    let mut aside = 0;
    for kill in &kills {
        let scratch = prepare();
        let archive = scratch.archive();
        let (output, trace) = tool::traced(&["-e", kill], &["delete", str(&archive), NAME]);
        assert!(!output.status.success(), "{kill}: {trace}");
        let unlinked = |line: &str| line.contains("unlinkat(") && line.ends_with("= 0");
        let unlinked = trace.lines().any(unlinked);
        let left = scratch.names();
        aside += u32::from(
            left.iter()
                .any(|name| name.starts_with(".walferry-delete.")),
        );
        let found = scan(&scratch.directory()).unwrap();
        if unlinked {
            assert_eq!(left, [""; 0], "{kill}");
        } else {
            assert_eq!(found.len(), 1, "{kill}: {left:?}");
            assert_eq!(scratch.names(), [NAME], "{kill}");
            assert_eq!(scratch.read(NAME), b"verified");
        }
    }
    assert!(
        kills.len() > 10 && aside > 0,
        "{} kills, {aside} with the file aside",
        kills.len()
    );
}

#[test]
fn a_leftover_whose_name_was_taken_again_is_dropped_if_equal_and_kept_if_not() {
    let leftover = format!(".walferry-delete.{NAME}.1.2.3");
    let scratch = Scratch::new();
    scratch.put(&leftover, b"same");
    scratch.put(NAME, b"same");
    assert_eq!(scan(&scratch.directory()).unwrap().len(), 1);
    assert_eq!(scratch.names(), [NAME]);

    let scratch = Scratch::new();
    scratch.put(&leftover, b"one");
    scratch.put(NAME, b"two");
    assert_eq!(scan(&scratch.directory()).unwrap().len(), 1);
    assert_eq!(scratch.read(NAME), b"two");
    let kept = quarantine_list(&scratch.directory()).unwrap();
    assert_eq!(
        kept.len(),
        1,
        "a content that nobody verified is not dropped"
    );
    assert_eq!(std::fs::read(&kept[0].path).unwrap(), b"one");
}

#[test]
fn a_crash_on_a_file_system_without_noreplace_leaves_two_names_of_one_file() {
    let scratch = Scratch::new();
    let path = scratch.put(NAME, b"verified");
    std::fs::hard_link(
        &path,
        scratch
            .archive()
            .join(format!(".walferry-delete.{NAME}.1.2.3")),
    )
    .unwrap();
    assert_eq!(scan(&scratch.directory()).unwrap().len(), 1);
    assert_eq!(scratch.names(), [NAME]);
}

#[test]
fn a_file_that_another_process_is_at_work_on_is_not_deleted() {
    let scratch = Scratch::new();
    let path = scratch.put(NAME, b"verified");
    let (file, id) = scratch.seen(NAME);
    let held = std::fs::File::open(&path).unwrap();
    rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
    let error = delete(&scratch.directory(), &file, &id).unwrap_err();
    assert!(matches!(error, DeleteError::InUse { .. }), "{error}");
    assert_eq!(scratch.names(), [NAME]);
}

#[test]
fn the_directory_is_synced_after_the_unlink() {
    let scratch = Scratch::new();
    scratch.put(NAME, b"verified");
    let (output, trace) = tool::traced(&[], &["delete", str(&scratch.archive()), NAME]);
    assert_eq!(tool::text(&output).trim(), "Unlinked");
    let unlink = trace.find("unlinkat(").expect("an unlink");
    assert!(trace[unlink..].contains("fsync("), "{trace}");
}
