use std::ffi::OsStr;

use walferry_spool::{quarantine_move, usage};

use crate::scratch::Scratch;

#[test]
fn files_in_the_quarantine_take_space_too_and_folders_none() {
    let scratch = Scratch::new();
    scratch.put("000000010000000000000001", &[0; 1000]);
    scratch.put("000000010000000000000002", &[0; 200]);
    std::fs::create_dir(scratch.archive().join("lost+found")).unwrap();
    quarantine_move(&scratch.directory(), OsStr::new("000000010000000000000002")).unwrap();
    let used = usage(&scratch.directory()).unwrap();
    assert_eq!((used.files, used.bytes), (2, 1200));
    assert!(used.fs_total > 0 && used.fs_available <= used.fs_total);
    assert!((0.0..=1.0).contains(&used.share), "{}", used.share);
}
