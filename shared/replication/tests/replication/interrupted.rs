//! Base backups that fail, and never look like one that succeeded.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::time::Duration;

use walferry_replication::{
    BackupEvent, BaseBackupOptions, BaseBackupStream, Connection, ReplicationError, Retry,
};

use crate::chain;
use crate::server::{Server, eventually, signal};
use crate::taken::Taken;

/// A slow backup, of which some data has come.
async fn under_way(server: &Server, stall: Duration) -> BaseBackupStream {
    let settings = server.settings().with_stall(stall);
    let connection = Connection::open(&settings).await.expect("connected");
    let options = BaseBackupOptions {
        max_rate: Some(1024),
        ..BaseBackupOptions::default()
    };
    let mut stream = connection.base_backup(options).await.expect("begun");
    while !matches!(stream.next().await.expect("an event"), BackupEvent::Data(_)) {}
    stream
}

/// Reads on until it fails.
async fn failure(stream: &mut BaseBackupStream) -> ReplicationError {
    let error = match Taken::read_on(stream).await {
        Ok(()) => panic!("it ended as if nothing had happened"),
        Err(error) => error,
    };
    // And stays failed.
    assert!(stream.next().await.is_err());
    error
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_middle_gives_an_error() {
    let server = Server::new(&[], "restart_after_crash = on");
    let stall = Duration::from_secs(60);
    let mut stream = under_way(&server, stall).await;
    signal("KILL", &server.sender());
    let error = failure(&mut stream).await;
    assert!(
        matches!(error, ReplicationError::Gone { .. }),
        "{}",
        chain(&error)
    );
    assert_eq!(error.retry(), Retry::Soon);
    eventually("the server has recovered", || {
        std::net::TcpStream::connect(("127.0.0.1", server.port)).is_ok()
            && server
                .folder
                .path()
                .join(format!(".s.PGSQL.{}", server.port))
                .exists()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_stopped_in_the_middle_gives_an_error() {
    let server = Server::new(&[], "");
    for mode in ["fast", "immediate"] {
        let mut stream = under_way(&server, Duration::from_secs(60)).await;
        server.stop(mode);
        let error = failure(&mut stream).await;
        assert_ne!(error.retry(), Retry::Operator, "{mode}: {}", chain(&error));
        server.start();
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_gives_an_error_in_time() {
    let server = Server::new(&[], "");
    let mut stream = under_way(&server, Duration::from_secs(1)).await;
    let sender = server.sender();
    signal("STOP", &sender);
    let failing = tokio::time::timeout(Duration::from_secs(20), failure(&mut stream)).await;
    signal("CONT", &sender);
    let error = failing.expect("it gives up");
    assert!(matches!(error, ReplicationError::Stalled { .. }), "{error}");
}

#[tokio::test]
async fn a_backup_that_is_dropped_ends_at_the_server() {
    let server = Server::new(&[], "");
    let stream = under_way(&server, Duration::from_secs(60)).await;
    assert!(!server.sender().is_empty());
    drop(stream);
    eventually("the server has given up", || server.sender().is_empty()).await;
}

#[tokio::test]
async fn a_damaged_page_is_named_and_the_backup_fails() {
    let server = Server::new(&["--data-checksums"], "");
    server.query("create table damaged as select generate_series(1, 10000) as n");
    let path = server.query("select pg_relation_filepath('damaged')");
    server.stop("fast");
    let path = server.data().join(path);
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a file");
    let mut byte = [0];
    file.seek(SeekFrom::Start(8192 + 5000)).expect("a seek");
    file.read_exact(&mut byte).expect("a byte");
    file.seek(SeekFrom::Start(8192 + 5000)).expect("a seek");
    file.write_all(&[!byte[0]]).expect("a byte");
    drop(file);
    server.start();
    let connection = server.connect().await;
    let mut stream = connection
        .base_backup(BaseBackupOptions::default())
        .await
        .expect("begun");
    let error = failure(&mut stream).await;
    let said = error.server_message().expect("the server's words");
    assert_eq!(said.code, "XX001", "{said}");
    assert_eq!(error.retry(), Retry::Operator);
    let warnings: Vec<_> = stream.notices().iter().map(ToString::to_string).collect();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("checksum verification failed")),
        "{warnings:?}"
    );
}

impl Taken {
    /// Reads on without keeping anything.
    async fn read_on(stream: &mut BaseBackupStream) -> Result<(), ReplicationError> {
        while !matches!(stream.next().await?, BackupEvent::End { .. }) {}
        Ok(())
    }
}
