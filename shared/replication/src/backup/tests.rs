//! The stream against scripted servers; real ones are in `tests/`.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::error::ReplicationError;
use crate::wire::Wire;

const TABLESPACES: &[u8] = b"\0\x03\0\0\0\x0516400\0\0\0\x04/ts1\0\0\0\x0242";
const DATA_DIRECTORY: &[u8] = b"\0\x03\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\x011";

fn encoded(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

fn result_set(rows: &[&[u8]]) -> Vec<u8> {
    let mut bytes = encoded(b'T', b"\0\0");
    for row in rows {
        bytes.extend(encoded(b'D', row));
    }
    bytes.extend(encoded(b'C', b"SELECT\0"));
    bytes
}

fn point(lsn: &str) -> Vec<u8> {
    let length = u32::try_from(lsn.len()).unwrap().to_be_bytes();
    [b"\0\x02", &length[..], lsn.as_bytes(), b"\0\0\0\x013"].concat()
}

/// Start, list of tablespaces, then `rest`; then the server closes.
async fn open(version: u32, rest: &[Vec<u8>]) -> Result<BaseBackupStream, ReplicationError> {
    let (client, mut server) = tokio::io::duplex(1 << 20);
    let mut bytes = result_set(&[&point("0/2000028")]);
    bytes.extend(result_set(&[TABLESPACES, DATA_DIRECTORY]));
    bytes.extend(rest.concat());
    server.write_all(&bytes).await.unwrap();
    let wire = Wire::new(Box::new(client), "db".to_owned(), Duration::from_secs(5));
    let begun = begin(wire, version, "BASE_BACKUP", Duration::ZERO).await;
    server.shutdown().await.unwrap();
    begun
}

/// All events, and the error that ended them.
async fn events(version: u32, rest: &[Vec<u8>]) -> (Vec<BackupEvent>, ReplicationError) {
    let mut stream = open(version, rest).await.unwrap();
    let mut events = Vec::new();
    loop {
        match stream.next().await {
            Ok(event) => events.push(event),
            Err(error) => return (events, error),
        }
    }
}

fn copy_out() -> Vec<u8> {
    encoded(b'H', b"\0\0\0")
}

fn data(content: &[u8]) -> Vec<u8> {
    encoded(b'd', content)
}

fn done() -> Vec<u8> {
    encoded(b'c', b"")
}

fn tail() -> Vec<u8> {
    [
        result_set(&[&point("0/2000138")]),
        encoded(b'C', b"BASE_BACKUP\0"),
        encoded(b'Z', b"I"),
    ]
    .concat()
}

fn archives() -> Vec<Vec<u8>> {
    vec![
        copy_out(),
        data(b"n16400.tar\0/ts1\0"),
        data(b"dfirst"),
        data(b"d"),
        data(b"p\0\0\0\0\0\0\0\x06"),
        data(b"nbase.tar\0\0"),
        data(b"dsecond"),
    ]
}

fn manifest() -> Vec<Vec<u8>> {
    vec![data(b"m"), data(b"d{}"), done()]
}

fn expected_data(text: &'static str) -> BackupEvent {
    BackupEvent::Data(Bytes::from_static(text.as_bytes()))
}

fn expected_end() -> BackupEvent {
    BackupEvent::End {
        stop_lsn: "0/2000138".parse().unwrap(),
        stop_timeline: walferry_wal::TimelineId::new(3).unwrap(),
    }
}

#[tokio::test]
async fn one_copy_is_taken_apart() {
    let rest = [archives(), manifest(), vec![tail()]].concat();
    let (found, error) = events(150_000, &rest).await;
    assert_eq!(
        found,
        [
            BackupEvent::Archive(Some(16400)),
            expected_data("first"),
            BackupEvent::Progress(6),
            BackupEvent::Archive(None),
            expected_data("second"),
            BackupEvent::Manifest,
            expected_data("{}"),
            expected_end(),
        ]
    );
    // After the end there is nothing, not another end.
    assert!(
        matches!(error, ReplicationError::Protocol { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn the_copies_of_14_become_the_same_events_and_whole_tar_files() {
    let rest = [
        copy_out(),
        data(b"first"),
        done(),
        copy_out(),
        data(b"second"),
        done(),
        copy_out(),
        data(b"{}"),
        done(),
        tail(),
    ];
    let (found, _) = events(140_000, &rest).await;
    let zeros = || BackupEvent::Data(Bytes::from_static(&[0; 1024]));
    assert_eq!(
        found,
        [
            BackupEvent::Archive(Some(16400)),
            expected_data("first"),
            zeros(),
            BackupEvent::Archive(None),
            expected_data("second"),
            zeros(),
            BackupEvent::Manifest,
            expected_data("{}"),
            expected_end(),
        ]
    );
}

#[tokio::test]
async fn where_it_starts_and_what_comes_is_known_before() {
    let stream = open(150_000, &[]).await.unwrap();
    assert_eq!(stream.start().lsn.to_string(), "0/2000028");
    assert_eq!(stream.start().timeline.get(), 3);
    let expected = [
        TablespaceInfo {
            oid: Some(16400),
            path: "/ts1".to_owned(),
            size_kib: Some(42),
        },
        TablespaceInfo {
            oid: None,
            path: String::new(),
            size_kib: Some(1),
        },
    ];
    assert_eq!(stream.tablespaces(), expected);
}

#[tokio::test]
async fn an_objection_after_the_stop_position_is_no_end() {
    let objection = encoded(
        b'E',
        b"SERROR\0VERROR\0CXX001\0Mchecksum verification failure\0\0",
    );
    let end = [result_set(&[&point("0/2000138")]), objection].concat();
    let rest = [archives(), manifest(), vec![end]].concat();
    let (found, error) = events(150_000, &rest).await;
    assert!(!found.contains(&expected_end()));
    let said = error.server_message().expect("the server's words");
    assert_eq!(said.code, "XX001");
}

#[tokio::test]
async fn a_connection_that_ends_early_is_no_end() {
    let whole = [archives(), manifest(), vec![tail()]].concat();
    let all = whole.concat();
    for cut in 0..all.len() {
        let (found, error) = events(150_000, &[all[..cut].to_vec()]).await;
        assert!(!found.contains(&expected_end()), "cut after {cut}");
        let gone = matches!(error, ReplicationError::Gone { .. });
        assert!(gone, "cut after {cut}: {error}");
    }
}

#[tokio::test]
async fn what_comes_out_of_order_is_refused() {
    let before_manifest = archives();
    let cases: [(&str, Vec<Vec<u8>>); 9] = [
        ("data before a copy", vec![data(b"dx")]),
        ("data before an archive", vec![copy_out(), data(b"dx")]),
        ("an early manifest", vec![copy_out(), data(b"m")]),
        (
            "an unknown archive",
            vec![copy_out(), data(b"n16401.tar\0/x\0")],
        ),
        ("another name", vec![copy_out(), data(b"n../x.tar\0\0")]),
        (
            "a name that does not end",
            vec![copy_out(), data(b"nbase.tar")],
        ),
        (
            "an archive twice",
            vec![copy_out(), data(b"nbase.tar\0\0"), data(b"nbase.tar\0\0")],
        ),
        (
            "no manifest",
            [before_manifest.clone(), vec![done()]].concat(),
        ),
        (
            "an unknown kind",
            [before_manifest, vec![data(b"x")]].concat(),
        ),
    ];
    for (name, rest) in cases {
        let (_, error) = events(150_000, &rest).await;
        assert!(
            matches!(error, ReplicationError::Protocol { .. }),
            "{name}: {error}"
        );
    }
}

#[tokio::test]
async fn cancelling_loses_nothing() {
    let (client, mut server) = tokio::io::duplex(1 << 20);
    let mut bytes = result_set(&[&point("0/2000028")]);
    bytes.extend(result_set(&[TABLESPACES, DATA_DIRECTORY]));
    server.write_all(&bytes).await.unwrap();
    let wire = Wire::new(Box::new(client), "db".to_owned(), Duration::from_secs(5));
    let mut stream = begin(wire, 150_000, "BASE_BACKUP", Duration::ZERO)
        .await
        .unwrap();
    let all = [archives(), manifest(), vec![tail()]].concat().concat();
    let mut found = Vec::new();
    for byte in all {
        server.write_all(&[byte]).await.unwrap();
        // Polled once, then dropped.
        while let Ok(event) = tokio::time::timeout(Duration::ZERO, stream.next()).await {
            let event = event.unwrap();
            found.push(event);
            if found.last() == Some(&expected_end()) {
                break;
            }
        }
    }
    assert_eq!(found.len(), 8, "{found:?}");
    assert_eq!(found.last(), Some(&expected_end()));
}

proptest! {
    #[test]
    fn no_stream_of_messages_makes_it_panic_or_run_for_ever(
        version in prop::sample::select(vec![140_000, 150_000]),
        messages in prop::collection::vec(
            (
                prop::sample::select(b"HdcTDCEZNS".to_vec()),
                prop::sample::select(b"nmdpx".to_vec()),
                prop::collection::vec(any::<u8>(), 0..30),
            ),
            0..20,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let rest: Vec<_> = messages
            .iter()
            .map(|(tag, kind, body)| encoded(*tag, &[&[*kind], &body[..]].concat()))
            .collect();
        let (found, _) = runtime.block_on(events(version, &rest));
        prop_assert!(found.len() <= messages.len() * 2);
    }
}
