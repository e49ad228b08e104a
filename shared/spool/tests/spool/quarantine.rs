use std::ffi::OsStr;

use walferry_spool::{QuarantineError, quarantine_list, quarantine_move, scan};

use crate::scratch::Scratch;

#[test]
fn a_file_put_aside_is_kept_and_its_name_is_free_again() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    let name = OsStr::new("000000010000000000000001");
    assert_eq!(quarantine_list(&directory).unwrap(), []);
    for (content, expected) in [
        (b"first".as_slice(), "quarantine/000000010000000000000001"),
        (b"second", "quarantine/000000010000000000000001.2"),
        (b"third", "quarantine/000000010000000000000001.3"),
    ] {
        scratch.put("000000010000000000000001", content);
        let path = quarantine_move(&directory, name).expect("moved");
        assert_eq!(path, scratch.archive().join(expected));
        assert_eq!(std::fs::read(path).unwrap(), content, "nothing is replaced");
        assert_eq!(
            scan(&directory).unwrap(),
            [],
            "PostgreSQL can hand it over again"
        );
    }
    let listed: Vec<_> = quarantine_list(&directory).unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[0].stat.size, 5);
}

#[test]
fn only_a_name_in_the_directory_can_be_put_aside() {
    let scratch = Scratch::new();
    scratch.put("000000010000000000000001", b"x");
    let outside = scratch.pg_wal().join("precious");
    std::fs::write(&outside, b"x").unwrap();
    for bad in [
        "../pg_wal/precious",
        "/etc/passwd",
        ".",
        "..",
        "",
        "a/b",
        ".walferry",
        "quarantine",
    ] {
        let error = quarantine_move(&scratch.directory(), OsStr::new(bad)).unwrap_err();
        assert!(
            matches!(error, QuarantineError::NotAName { .. }),
            "{bad}: {error}"
        );
    }
    let error = quarantine_move(&scratch.directory(), OsStr::new("00000002.history"));
    assert!(matches!(error, Err(QuarantineError::Gone { .. })));
    assert!(outside.exists());
}
