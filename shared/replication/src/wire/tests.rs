use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;

fn encoded(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// What a client makes of these bytes, after which the server closes.
async fn first(bytes: &[u8]) -> Result<Message, ReplicationError> {
    let (client, mut server) = tokio::io::duplex(1 << 20);
    server.write_all(bytes).await.unwrap();
    drop(server);
    wire(client).message().await
}

fn wire(stream: impl Stream + 'static) -> Wire {
    Wire::new(
        Box::new(stream),
        "db:5432".to_owned(),
        Duration::from_millis(200),
    )
}

#[tokio::test]
async fn notices_are_kept_and_passed_over() {
    let notice = encoded(b'N', b"SWARNING\0C01000\0Mchecksum verification failed\0\0");
    let bytes = [notice, encoded(b'Z', b"I")].concat();
    let (client, mut server) = tokio::io::duplex(1 << 20);
    server.write_all(&bytes).await.unwrap();
    let mut wire = wire(client);
    assert!(matches!(
        wire.message().await,
        Ok(Message::ReadyForQuery(_))
    ));
    let [kept] = &wire.notices[..] else {
        panic!("one notice: {:?}", wire.notices);
    };
    assert_eq!(kept.severity, "WARNING");
    assert_eq!(
        kept.to_string(),
        "checksum verification failed (SQLSTATE 01000)"
    );
}

#[tokio::test]
async fn a_server_that_closes_or_falls_silent_is_an_error() {
    for cut in [&b""[..], b"Z", b"Z\0\0\0\x05"] {
        let result = first(cut).await;
        assert!(
            matches!(result, Err(ReplicationError::Gone { .. })),
            "{cut:?}"
        );
    }
    let (client, server) = tokio::io::duplex(64);
    let result = wire(client).message().await;
    assert!(matches!(result, Err(ReplicationError::Stalled { .. })));
    drop(server);
}

#[tokio::test]
async fn a_message_that_claims_too_much_is_refused_before_it_is_read() {
    for (tag, length, good) in [
        (b'd', LONGEST, true),
        (b'd', LONGEST + 1, false),
        (b'D', LONGEST_ROW, true),
        (b'D', LONGEST_ROW + 1, false),
        (b'E', u32::MAX as usize, false),
        (b'E', i32::MAX as usize, false),
        (b'd', 3, false),
    ] {
        let length = u32::try_from(length).unwrap().to_be_bytes();
        let mut input = BytesMut::from(&[&[tag], &length[..]].concat()[..]);
        let result = split_message(&mut input);
        assert_eq!(
            matches!(result, Ok(None)),
            good,
            "{} {length:?}",
            tag as char
        );
        if !good {
            assert!(input.capacity() < 1024, "nothing is reserved");
        }
    }
}

#[tokio::test]
async fn an_error_is_told_although_the_server_hangs_up_after_it() {
    let fatal = encoded(
        b'E',
        b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0Dbye\0Hwait\0\0",
    );
    let (client, mut server) = tokio::io::duplex(1 << 20);
    server.write_all(&fatal).await.unwrap();
    server.shutdown().await.unwrap();
    let error = wire(client).query("SHOW x").await.expect_err("an error");
    let message = error.server_message().expect("the server's").to_string();
    assert_eq!(
        message,
        "terminating connection (SQLSTATE 57P01); DETAIL: bye; HINT: wait"
    );
    assert_eq!(error.retry(), crate::Retry::Later);
}

#[tokio::test]
async fn rows_are_cut_as_the_server_cut_them() {
    let row = b"\0\x03\0\0\0\x02ab\xFF\xFF\xFF\xFF\0\0\0\0";
    let bytes = [encoded(b'D', row), encoded(b'C', b"SELECT\0")].concat();
    let (client, mut server) = tokio::io::duplex(1 << 20);
    server.write_all(&bytes).await.unwrap();
    let rows = wire(client).result_set().await.unwrap();
    let expected = vec![
        Some(Bytes::from_static(b"ab")),
        None,
        Some(Bytes::from_static(b"")),
    ];
    assert_eq!(rows, [expected]);
    let short = encoded(b'D', b"\0\x01\0\0\0\x09ab");
    let (client, mut server) = tokio::io::duplex(1 << 20);
    server.write_all(&short).await.unwrap();
    let result = wire(client).result_set().await;
    assert!(matches!(result, Err(ReplicationError::Protocol { .. })));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut input = BytesMut::from(&bytes[..]);
        let mut left = input.len();
        while let Ok(Some(message)) = split_message(&mut input) {
            prop_assert!(input.len() < left, "each message takes something");
            left = input.len();
            if let Message::ErrorResponse(body) = &message {
                let _ = ServerMessage::read(body.fields());
            }
        }
    }

    #[test]
    fn no_body_of_any_message_makes_a_reader_panic(
        tag in prop::sample::select(b"123ACcdDEGHIKNnRSsTtZ".to_vec()),
        body in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bytes = encoded(tag, &body);
        runtime.block_on(async {
            let (client, mut server) = tokio::io::duplex(1 << 20);
            server.write_all(&bytes).await.unwrap();
            drop(server);
            let _ = wire(client).result_set().await;
        });
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..10),
        cut in 1_usize..20,
    ) {
        let all: Vec<u8> = bodies.iter().flat_map(|body| encoded(b'd', body)).collect();
        let mut input = BytesMut::new();
        let mut found = Vec::new();
        for piece in all.chunks(cut) {
            input.extend_from_slice(piece);
            while let Some(message) = split_message(&mut input).unwrap() {
                let Message::CopyData(body) = message else { panic!("data") };
                found.push(body.into_bytes().to_vec());
            }
        }
        prop_assert_eq!(found, bodies);
    }
}
