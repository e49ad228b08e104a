//! History files that PostgreSQL does not hand over itself.

use std::path::PathBuf;

use walferry_spool::{PushError, Pushed, push};

use crate::postgres::made;
use crate::scratch::{SETTINGS, Scratch};

const HISTORY: &str = "00000002.history";

/// A `pg_wal` of timeline 2 with its history file, and a segment to push.
fn later() -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    scratch.source(&made().history());
    let segment = scratch.source(&made().later_segment());
    (scratch, segment)
}

fn store(scratch: &Scratch, source: &std::path::Path) {
    let pushed = push(source, &scratch.directory(), &SETTINGS);
    assert!(matches!(pushed, Ok(Pushed::Stored | Pushed::AlreadyThere)));
}

fn holds_history(scratch: &Scratch) -> bool {
    scratch.names().iter().any(|name| name == HISTORY)
}

/// What a worker does when it is archived.
fn archive_away(scratch: &Scratch) {
    std::fs::remove_file(scratch.archive().join(HISTORY)).expect("it lies there");
}

#[test]
fn a_history_file_of_old_goes_along_with_the_first_segment_of_a_later_timeline() {
    let (scratch, segment) = later();
    store(&scratch, &segment);
    assert_eq!(
        scratch.read(HISTORY),
        std::fs::read(made().history()).unwrap()
    );
}

#[test]
fn a_segment_of_the_first_timeline_takes_no_history_along() {
    let scratch = Scratch::new();
    scratch.source(&made().history());
    let segment = scratch.source(&made().segment());
    store(&scratch, &segment);
    assert!(!holds_history(&scratch));
}

#[test]
fn what_was_archived_and_deleted_is_not_handed_over_again() {
    let (scratch, segment) = later();
    store(&scratch, &segment);
    archive_away(&scratch);
    store(&scratch, &segment);
    assert!(!holds_history(&scratch), "the directory has seen it");
}

#[test]
fn a_history_file_that_postgresql_pushed_itself_counts_as_seen() {
    let (scratch, segment) = later();
    store(&scratch, &scratch.pg_wal().join(HISTORY));
    archive_away(&scratch);
    store(&scratch, &segment);
    assert!(!holds_history(&scratch));
}

#[test]
fn another_content_under_the_name_was_never_seen() {
    let (scratch, segment) = later();
    store(&scratch, &segment);
    archive_away(&scratch);
    let changed = b"1\t0/5000000\tof another promotion\n";
    std::fs::write(scratch.pg_wal().join(HISTORY), changed).unwrap();
    store(&scratch, &segment);
    assert_eq!(scratch.read(HISTORY), changed);
}

#[test]
fn a_cut_note_costs_one_more_hand_over_and_no_history() {
    let (scratch, segment) = later();
    store(&scratch, &segment);
    archive_away(&scratch);
    let note = scratch
        .archive()
        .join(".walferry/handed-over")
        .join(HISTORY);
    let text = std::fs::read(&note).unwrap();
    std::fs::write(&note, &text[..10]).unwrap();
    store(&scratch, &segment);
    assert!(holds_history(&scratch));
}

#[test]
fn a_segment_is_not_acknowledged_while_a_history_file_cannot_be_stored() {
    let (scratch, segment) = later();
    scratch.put(HISTORY, b"1\t0/1000000\tof a foreign server\n");
    let error = push(&segment, &scratch.directory(), &SETTINGS).unwrap_err();
    assert!(matches!(error, PushError::OtherContent { .. }), "{error}");
    assert_eq!(scratch.names(), [HISTORY], "the segment waits in pg_wal");
}
