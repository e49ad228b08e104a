use walferry_spool::{Suspicion, scan};

use crate::scratch::Scratch;

#[test]
fn history_files_come_first_and_then_wal_in_its_order() {
    let scratch = Scratch::new();
    let sorted = [
        "00000002.history",
        "0000000A.history",
        "0000000100000000000000FF",
        "000000010000000100000000",
        "000000010000000100000000.00000028.backup",
        "000000010000000100000001",
        "000000010000000100000002.partial",
        "000000020000000100000002",
        "notes.txt",
    ];
    for name in sorted.iter().rev() {
        scratch.put(name, b"x");
    }
    let names: Vec<_> = scan(&scratch.directory())
        .unwrap()
        .into_iter()
        .map(|entry| entry.name.into_string().unwrap())
        .collect();
    assert_eq!(names, sorted);
}

#[test]
fn temporary_names_and_our_folders_are_not_reported() {
    let scratch = Scratch::new();
    for name in [
        ".walferry-push.000000010000000000000001.1.2.3",
        ".walferry-check.a.1.2.3",
        "archtemp.000000010000000000000001.123.456",
        ".000000010000000000000001.rsync",
    ] {
        scratch.put(name, b"x");
    }
    for folder in ["quarantine", ".walferry", "lost+found"] {
        std::fs::create_dir(scratch.archive().join(folder)).unwrap();
    }
    assert_eq!(scan(&scratch.directory()).unwrap(), []);
}

#[test]
fn whatever_is_no_regular_wal_file_is_named_and_never_opened() {
    use std::os::unix::ffi::OsStrExt;

    let scratch = Scratch::new();
    let archive = scratch.archive();
    std::os::unix::fs::symlink("/etc/passwd", archive.join("000000010000000000000001")).unwrap();
    std::fs::create_dir(archive.join("000000010000000000000002")).unwrap();
    let fifo = archive.join("000000010000000000000003");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    scratch.put("00000001000000000000000a", b"x");
    std::fs::write(archive.join(std::ffi::OsStr::from_bytes(b"\xff\n")), b"x").unwrap();
    let found: Vec<_> = scan(&scratch.directory())
        .unwrap()
        .into_iter()
        .map(|entry| (entry.name, entry.file))
        .collect();
    let expected = [
        (b"000000010000000000000001".as_slice(), Suspicion::Symlink),
        (b"000000010000000000000002", Suspicion::NotRegular),
        (b"000000010000000000000003", Suspicion::NotRegular),
        (b"00000001000000000000000a", Suspicion::NotAWalName),
        (b"\xff\n", Suspicion::NotAWalName),
    ];
    for ((name, file), (wanted, suspicion)) in found.iter().zip(&expected) {
        assert_eq!(name.as_bytes(), *wanted);
        assert_eq!(file.as_ref().unwrap_err(), suspicion);
        assert!(!suspicion.hint().is_empty() && !suspicion.transient());
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn a_directory_that_is_missing_or_none_is_told_with_the_way_out() {
    let scratch = Scratch::new();
    for path in [scratch.path().join("nowhere"), scratch.put("file", b"x")] {
        let error = walferry_spool::Directory::open(path)
            .unwrap_err()
            .to_string();
        assert!(error.contains("HINT: "), "{error}");
    }
}
