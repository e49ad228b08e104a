//! Files that a real PostgreSQL made, and what can go wrong with them.

use std::path::Path;

use walferry_spool::{Content, Directory, InspectError, OpenError, Suspicion, inspect};
use walferry_wal::{BackupFrom, SystemId, UnknownMagic, WalFile};

use crate::postgres::made;
use crate::scratch::Scratch;

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("a name")
}

fn look(directory: &Directory, name: &str) -> Result<Content, Suspicion> {
    let file: WalFile = name.parse().expect("a WAL name");
    match inspect(directory, &file, Some(made().system)) {
        Ok(inspected) => {
            let mut whole = Vec::new();
            inspected.file.read_whole(&mut whole).expect("read");
            assert_eq!(whole.len() as u64, inspected.file.id().size);
            Ok(inspected.content)
        }
        Err(error) => Err(error
            .suspicion()
            .cloned()
            .unwrap_or_else(|| panic!("{error}"))),
    }
}

/// Puts `content` under `name` and looks at it.
fn suspicion(name: &str, content: &[u8]) -> Suspicion {
    let scratch = Scratch::new();
    scratch.put(name, content);
    let found = look(&scratch.directory(), name).expect_err(name);
    assert!(!found.hint().is_empty());
    assert_eq!(scratch.read(name), content, "it stays where it is");
    found
}

#[test]
fn everything_that_postgresql_archived_is_what_its_name_says() {
    let scratch = Scratch::new();
    let made = made();
    let files = made.ending("");
    let mut kinds = std::collections::BTreeSet::new();
    for path in &files {
        std::fs::copy(path, scratch.archive().join(name(path))).unwrap();
        let file: WalFile = name(path).parse().unwrap();
        kinds.insert(file.kind().as_str());
        match look(&scratch.directory(), name(path))
            .unwrap_or_else(|error| panic!("{file}: {error}"))
        {
            Content::Pages {
                header,
                unknown_magic,
            } => {
                assert_eq!(unknown_magic, None);
                assert_eq!(header.segment_size.bytes(), 1 << 20);
                assert_eq!(header.system_id, made.system);
            }
            Content::History(history) => assert_eq!(history.entries.len(), 1),
            Content::Label(label) => {
                assert_eq!(label.label, "nightly");
                assert_eq!(label.backup_from, BackupFrom::Primary);
                assert!(label.stop_lsn > label.start_lsn);
            }
        }
    }
    assert_eq!(
        Vec::from_iter(kinds),
        ["backup", "history", "partial", "segment"]
    );
}

#[test]
fn a_segment_that_is_still_growing_is_not_yet_at_any_length() {
    let segment = made().segment();
    let whole = std::fs::read(&segment).unwrap();
    for length in [0, 1, 39, 40, 8192, 1 << 19, whole.len() - 1] {
        let found = suspicion(name(&segment), &whole[..length]);
        assert!(
            matches!(found, Suspicion::Short { .. }),
            "{length}: {found:?}"
        );
        assert!(found.transient());
    }
    // A preallocated file, zeros at first, has no legal size either until it is whole.
    assert!(suspicion(name(&segment), &vec![0; 12_345]).transient());
}

#[test]
fn a_segment_under_another_name_size_or_system_is_an_error_at_once() {
    let segments = made().segments();
    let whole = std::fs::read(&segments[0]).unwrap();
    let mut twice = whole.clone();
    twice.extend_from_slice(&whole);
    let mut no_header = whole.clone();
    no_header[..40].fill(0);
    let mut later = whole.clone();
    later[4] = 9;
    for (file, content) in [
        (name(&segments[1]), &whole),
        (name(&segments[0]), &twice),
        (name(&segments[0]), &no_header),
        (name(&segments[0]), &vec![0; 1 << 20]),
        (name(&segments[0]), &later),
    ] {
        let found = suspicion(file, content);
        assert!(matches!(found, Suspicion::HeaderMismatch(_)), "{found:?}");
        assert!(!found.transient());
    }
    let mut foreign = whole.clone();
    foreign[24] ^= 1;
    assert!(matches!(
        suspicion(name(&segments[0]), &foreign),
        Suspicion::OtherSystem { .. }
    ));
}

#[test]
fn the_old_timeline_in_the_first_segment_after_a_promotion_is_legal() {
    let scratch = Scratch::new();
    let segment = made().segment();
    let promoted = name(&segment).replacen("00000001", "00000002", 1);
    scratch.put(&promoted, &std::fs::read(&segment).unwrap());
    assert!(matches!(
        look(&scratch.directory(), &promoted),
        Ok(Content::Pages { .. })
    ));
}

#[test]
fn an_unknown_page_magic_is_told_and_accepted() {
    let scratch = Scratch::new();
    let segment = made().segment();
    let mut content = std::fs::read(&segment).unwrap();
    content[..2].copy_from_slice(&0xD1FF_u16.to_le_bytes());
    scratch.put(name(&segment), &content);
    let found = look(&scratch.directory(), name(&segment)).unwrap();
    let Content::Pages { unknown_magic, .. } = found else {
        panic!("{found:?}");
    };
    assert_eq!(unknown_magic, Some(UnknownMagic(0xD1FF)));
}

#[test]
fn a_history_or_label_cut_anywhere_before_its_end_is_not_yet() {
    for path in [made().history(), made().label()] {
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            let found = suspicion(name(&path), &whole[..length]);
            assert!(
                matches!(
                    found,
                    Suspicion::IncompleteHistory | Suspicion::IncompleteLabel
                ),
                "{} cut at {length}: {found:?}",
                name(&path)
            );
            assert!(found.transient());
        }
    }
}

#[test]
fn a_label_under_another_backups_name_is_an_error_at_once() {
    let label = made().label();
    let whole = std::fs::read(&label).unwrap();
    let segment = &name(&label)[..24];
    let found = suspicion(&format!("{segment}.0000BEEF.backup"), &whole);
    assert_eq!(found, Suspicion::LabelOfAnother);
    let found = suspicion("0000000100000000000000FE.00000028.backup", &whole);
    assert_eq!(found, Suspicion::LabelOfAnother);
    assert!(matches!(
        suspicion("00000002.history", b"nonsense\n"),
        Suspicion::BadHistory(_)
    ));
    assert!(matches!(
        suspicion("00000002.history", &vec![b'\n'; 2 << 20]),
        Suspicion::BadHistory(_)
    ));
}

#[test]
fn links_and_pipes_are_not_followed_and_not_waited_for() {
    let scratch = Scratch::new();
    let segment = made().segment();
    std::os::unix::fs::symlink(&segment, scratch.archive().join(name(&segment))).unwrap();
    assert_eq!(
        look(&scratch.directory(), name(&segment)),
        Err(Suspicion::Symlink)
    );
    let fifo = scratch.archive().join("000000010000000000000099");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    assert_eq!(
        look(&scratch.directory(), "000000010000000000000099"),
        Err(Suspicion::NotRegular)
    );
    let gone: WalFile = "000000010000000000000098".parse().unwrap();
    let error = inspect(&scratch.directory(), &gone, None::<SystemId>).unwrap_err();
    assert!(matches!(error, InspectError::Open(OpenError::Gone { .. })));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_taken() {
    use walferry_spool::{ReadError, StreamError, open_checked};

    let scratch = Scratch::new();
    let segment = made().segment();
    let path = scratch.put(name(&segment), &std::fs::read(&segment).unwrap());
    let (file, _) = scratch.seen(name(&segment));
    let directory = scratch.directory();

    let mut pieces = 0;
    let opened = open_checked(&directory, &file).unwrap();
    let mut buffer = vec![0; 100_000];
    let streamed = opened.stream(&mut buffer, |piece| {
        pieces += piece.len();
        Ok::<(), ()>(())
    });
    assert!(streamed.is_ok());
    assert_eq!(pieces, 1 << 20);

    let streamed = opened.stream(&mut buffer, |_| Err("enough"));
    assert!(matches!(streamed, Err(StreamError::Stopped("enough"))));

    let mut first = true;
    let streamed = opened.stream(&mut buffer, |_| {
        if std::mem::take(&mut first) {
            use std::os::unix::fs::FileExt;
            // Written to behind the reader's back, at a place it has passed.
            let writer = std::fs::File::options().write(true).open(&path).unwrap();
            writer.write_all_at(b"!", 0).unwrap();
        }
        Ok::<(), ()>(())
    });
    assert!(matches!(
        streamed,
        Err(StreamError::Read(ReadError::Changed { .. }))
    ));

    let opened = open_checked(&directory, &file).unwrap();
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1000)
        .unwrap();
    let mut whole = Vec::new();
    assert!(matches!(
        opened.read_whole(&mut whole),
        Err(ReadError::Changed { .. })
    ));
}

#[test]
fn only_files_that_fit_in_memory_are_read_whole() {
    use walferry_spool::{MAX_WHOLE, ReadError, open_checked};

    let scratch = Scratch::new();
    let path = scratch.put("000000010000000000000001", b"");
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(MAX_WHOLE + 1)
        .unwrap();
    let (file, _) = scratch.seen("000000010000000000000001");
    let opened = open_checked(&scratch.directory(), &file).unwrap();
    let mut buffer = Vec::new();
    assert!(matches!(
        opened.read_whole(&mut buffer),
        Err(ReadError::TooLarge { .. })
    ));
    assert_eq!(buffer.capacity(), 0);
}
