//! `push`: durable, never overwriting, harmless to kill.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use walferry_spool::{Limit, PushError, PushSettings, Pushed, push, scan};

use crate::postgres::made;
use crate::scratch::{SETTINGS, Scratch, mode};
use crate::tool;

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("a name")
}

fn str(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_stored_segment_has_content_mode_and_time_of_its_source() {
    let scratch = Scratch::new();
    let source = scratch.source(&made().segment());
    let old =
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    let file = std::fs::File::options()
        .append(true)
        .open(&source)
        .expect("a file");
    file.set_modified(old).expect("a time");
    for wanted in [0o640, 0o600, 0o644] {
        let other = Scratch::new();
        let settings = PushSettings {
            mode: wanted,
            limit: None,
        };
        let pushed = push(&source, &other.directory(), &settings).expect("stored");
        assert_eq!(pushed, Pushed::Stored);
        let stored = other.archive().join(name(&source));
        assert_eq!(
            std::fs::read(&stored).unwrap(),
            std::fs::read(&source).unwrap()
        );
        assert_eq!(mode(&stored), wanted);
        assert_eq!(std::fs::metadata(&stored).unwrap().modified().unwrap(), old);
        assert_eq!(other.names(), [name(&source)]);
    }
}

#[test]
fn the_servers_umask_does_not_hide_a_file_from_the_group() {
    let scratch = Scratch::new();
    let source = scratch.source(&made().segment());
    let output = std::process::Command::new("sh")
        .args(["-c", "umask 0077; exec \"$0\" \"$@\""])
        .arg(tool::tool())
        .args(["push", str(&scratch.archive()), str(&source)])
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", tool::text(&output));
    assert_eq!(mode(&scratch.archive().join(name(&source))), 0o640);
}

#[test]
fn the_same_content_again_is_success_even_in_a_full_directory() {
    let scratch = Scratch::new();
    let source = scratch.source(&made().segment());
    let directory = scratch.directory();
    assert_eq!(
        push(&source, &directory, &SETTINGS).expect("stored"),
        Pushed::Stored
    );
    let before = std::fs::metadata(scratch.archive().join(name(&source))).unwrap();
    let full = PushSettings {
        mode: 0o640,
        limit: Some(Limit::Bytes(1)),
    };
    assert_eq!(
        push(&source, &directory, &full).expect("accepted"),
        Pushed::AlreadyThere
    );
    let after = std::fs::metadata(scratch.archive().join(name(&source))).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec()),
        (after.ino(), after.mtime_nsec())
    );
}

#[test]
fn other_content_under_the_name_is_refused_and_stays_as_it_was() {
    let segments = made().segments();
    let good = std::fs::read(&segments[0]).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for there in [&flipped[..], &good[..good.len() / 2], &[], b"x"] {
        let scratch = Scratch::new();
        let source = scratch.source(&segments[0]);
        scratch.put(name(&source), there);
        let error = push(&source, &scratch.directory(), &SETTINGS).unwrap_err();
        assert!(matches!(error, PushError::OtherContent { .. }), "{error}");
        assert!(error.to_string().contains("HINT: "), "{error}");
        assert_eq!(scratch.read(name(&source)), there);
        assert_eq!(scratch.names(), [name(&source)]);
    }
}

#[test]
fn a_full_directory_refuses_early_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let segments = made().segments();
    let (first, second) = (scratch.source(&segments[0]), scratch.source(&segments[1]));
    let size = std::fs::metadata(&first).unwrap().len();
    let with = |limit| PushSettings {
        mode: 0o640,
        limit: Some(limit),
    };
    let directory = scratch.directory();
    assert_eq!(
        push(&first, &directory, &with(Limit::Bytes(2 * size - 1))).expect("there is room for one"),
        Pushed::Stored
    );
    for limit in [Limit::Bytes(2 * size - 1), Limit::Share(0.000_001)] {
        let error = push(&second, &directory, &with(limit)).unwrap_err();
        assert!(
            matches!(
                error,
                PushError::FullBytes { .. } | PushError::FullShare { .. }
            ),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("HINT: PostgreSQL keeps the segment"),
            "{error}"
        );
        assert_eq!(scratch.names(), [name(&first)]);
    }
    for limit in [Limit::Bytes(2 * size), Limit::Share(1.0)] {
        let pushed = push(&second, &directory, &with(limit)).expect("exactly the limit fits");
        assert_eq!(pushed, Pushed::Stored);
        std::fs::remove_file(scratch.archive().join(name(&second))).unwrap();
    }
}

#[test]
fn only_regular_files_that_postgresql_archives_are_taken() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    for bad in [
        "pg_wal",
        "000000010000000000000001.gz",
        "00000001000000000000000a",
        "x",
    ] {
        let path = scratch.pg_wal().join(bad);
        std::fs::write(&path, b"x").unwrap();
        let error = push(&path, &directory, &SETTINGS).unwrap_err();
        assert!(matches!(error, PushError::NotWal { .. }), "{bad}: {error}");
    }
    let fifo = scratch.pg_wal().join("000000010000000000000005");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    let error = push(&fifo, &directory, &SETTINGS).unwrap_err();
    assert!(matches!(error, PushError::NotRegular { .. }), "{error}");
    let cut = scratch.source(&made().segment());
    let file = std::fs::File::options().write(true).open(&cut).unwrap();
    file.set_len((1 << 20) - 1).unwrap();
    let error = push(&cut, &directory, &SETTINGS).unwrap_err();
    assert!(
        matches!(error, PushError::NotASegmentSize { .. }),
        "{error}"
    );
    let error = push(
        &scratch.pg_wal().join("000000010000000000000009"),
        &directory,
        &SETTINGS,
    );
    assert!(matches!(error, Err(PushError::Source { .. })));
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
fn what_a_dead_push_left_is_removed_and_what_a_live_one_writes_is_not() {
    let scratch = Scratch::new();
    let segments = made().segments();
    let dead = scratch.put(".walferry-push.000000010000000000000001.1.2.3", b"half");
    let live = scratch.put(".walferry-push.000000010000000000000002.1.2.4", b"half");
    let held = std::fs::File::open(&live).unwrap();
    rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
    let source = scratch.source(&segments[0]);
    assert_eq!(
        push(&source, &scratch.directory(), &SETTINGS).unwrap(),
        Pushed::Stored
    );
    assert!(!dead.exists(), "nobody works on it any more");
    assert!(live.exists(), "its writer lives");
    drop(held);
    let source = scratch.source(&segments[1]);
    assert_eq!(
        push(&source, &scratch.directory(), &SETTINGS).unwrap(),
        Pushed::Stored
    );
    assert!(!live.exists());
}

#[test]
fn many_pushes_of_one_name_store_one_content_once() {
    for _ in 0..20 {
        let scratch = Scratch::new();
        let made = made().segments();
        let same = scratch.source(&made[0]);
        let other_folder = scratch.path().join("other");
        std::fs::create_dir(&other_folder).unwrap();
        let other = other_folder.join(name(&same));
        std::fs::copy(&made[1], &other).unwrap();
        let start = std::sync::Barrier::new(6);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let runs: Vec<_> = [&same, &same, &same, &other, &other, &other]
                .map(|source| {
                    let (start, directory) = (&start, scratch.directory());
                    scope.spawn(move || {
                        start.wait();
                        (source, push(source, &directory, &SETTINGS))
                    })
                })
                .into_iter()
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        let stored: Vec<_> = outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Ok(Pushed::Stored)))
            .collect();
        let [(winner, _)] = stored[..] else {
            panic!("{} were told that they stored it", stored.len());
        };
        for (source, outcome) in &outcomes {
            match outcome {
                Ok(_) => assert_eq!(source, winner),
                Err(PushError::OtherContent { .. }) => assert_ne!(source, winner),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(scratch.read(name(&same)), std::fs::read(winner).unwrap());
        assert_eq!(scratch.names(), [name(&same)]);
    }
}

#[test]
fn content_is_synced_before_the_name_and_the_directory_after_it() {
    let scratch = Scratch::new();
    let source = scratch.source(&made().segment());
    let archive = scratch.archive();
    let arguments = ["push", str(&archive), str(&source)];
    let calls = |trace: &str| -> Vec<&'static str> {
        let lines = trace.lines().filter(|line| !line.contains(" = -1 "));
        lines
            .filter_map(|line| {
                if line.contains("fsync(") && line.contains(".walferry-push.") {
                    Some("sync temporary")
                } else if line.contains("fsync(") && line.contains("archive>)") {
                    Some("sync directory")
                } else if line.contains("fsync(") {
                    Some("sync file")
                } else if line.contains("fchmod(") {
                    Some("mode")
                } else if line.contains("renameat2(") && line.contains("RENAME_NOREPLACE") {
                    Some("rename")
                } else {
                    None
                }
            })
            .collect()
    };
    let (output, trace) = tool::traced(&[], &arguments);
    assert!(output.status.success(), "{}", tool::text(&output));
    assert_eq!(
        calls(&trace),
        ["mode", "sync temporary", "rename", "sync directory"],
        "{trace}"
    );
    // The writer of what lies there may have died before it synced.
    let (output, trace) = tool::traced(&[], &arguments);
    assert_eq!(tool::text(&output).trim(), "AlreadyThere");
    assert_eq!(calls(&trace), ["sync file", "sync directory"], "{trace}");
}

#[test]
fn a_file_system_without_noreplace_is_served_by_a_hard_link() {
    let scratch = Scratch::new();
    let segments = made().segments();
    let source = scratch.source(&segments[0]);
    let archive = scratch.archive();
    let arguments = ["push", str(&archive), str(&source)];
    let (output, trace) = tool::traced(&["-e", "inject=renameat2:error=EINVAL"], &arguments);
    assert!(output.status.success(), "{}", tool::text(&output));
    assert!(trace.contains("linkat("), "{trace}");
    assert_eq!(scratch.names(), [name(&source)]);
    assert_eq!(scratch.read(name(&source)), std::fs::read(&source).unwrap());
}

#[test]
fn errors_of_the_file_system_end_in_exit_code_1_and_leave_nothing_behind() {
    for (call, error, told) in [
        ("copy_file_range", "ENOSPC", "no space left"),
        ("fsync", "EIO", "sync a file"),
        ("fchmod", "EPERM", "may not be written"),
        ("renameat2", "EIO", "rename a file"),
        ("flock", "ENOLCK", "lock a file"),
    ] {
        let scratch = Scratch::new();
        let source = scratch.source(&made().segment());
        let inject = format!("inject={call}:error={error}");
        let archive = scratch.archive();
        let arguments = ["push", str(&archive), str(&source)];
        let (output, trace) = tool::traced(&["-e", &inject], &arguments);
        assert_eq!(output.status.code(), Some(1), "{call} {error}: {trace}");
        assert!(
            tool::text(&output).contains(told),
            "{call}: {}",
            tool::text(&output)
        );
        let names = scratch.names();
        // Without its lock the temporary file cannot be told from a live one: the next removes it.
        let left = names
            .iter()
            .filter(|name| !name.starts_with(".walferry-push."))
            .count();
        assert_eq!(left, 0, "{call}: {names:?}");
        assert!(names.is_empty() || call == "flock", "{call}: {names:?}");
        let again = tool::run(&arguments);
        assert_eq!(tool::text(&again).trim(), "Stored");
        assert_eq!(scratch.names(), [name(&source)]);
    }
}

#[test]
fn a_push_killed_at_any_system_call_leaves_no_half_file_and_can_be_repeated() {
    let segment = made().segment();
    let prepare = || {
        let scratch = Scratch::new();
        let source = scratch.source(&segment);
        (scratch, source)
    };
    let (scratch, source) = prepare();
    let kills = tool::kills(&["push", str(&scratch.archive()), str(&source)]);
    let (mut before, mut after) = (0, 0);
    for kill in &kills {
        let (scratch, source) = prepare();
        let archive = scratch.archive();
        let arguments = ["push", str(&archive), str(&source)];
        let (output, trace) = tool::traced(&["-e", kill], &arguments);
        assert!(!output.status.success(), "{kill}: {trace}");
        let good = std::fs::read(&source).unwrap();
        let visible: Vec<_> = scan(&scratch.directory()).unwrap();
        for entry in &visible {
            assert_eq!(entry.name, *name(&source));
            assert_eq!(scratch.read(name(&source)), good, "{kill}");
        }
        *if visible.is_empty() {
            &mut before
        } else {
            &mut after
        } += 1;
        let again = tool::run(&arguments);
        assert!(again.status.success(), "{kill}: {}", tool::text(&again));
        assert_eq!(scratch.read(name(&source)), good);
        // A kill after the rename leaves nothing temporary, one before it is cleaned up.
        assert_eq!(scratch.names(), [name(&source)], "{kill}");
    }
    assert!(
        before > 10 && after > 1,
        "{before} kills before the rename, {after} after"
    );
}
