//! Base backups that succeed.

use std::time::{Duration, Instant};

use walferry_replication::{BackupEvent, BaseBackupOptions};

use crate::server::{Server, own, run};
use crate::taken::Taken;

#[tokio::test]
async fn a_backup_with_a_tablespace_is_verified_starts_and_has_every_row() {
    let server = Server::new(&["--data-checksums"], "");
    let space = server.folder.path().join("space");
    std::fs::create_dir(&space).expect("a folder");
    own(&space);
    server.query(&format!(
        "create tablespace apart location '{}'",
        space.display()
    ));
    server.query("create table here as select generate_series(1, 5000) as n");
    server.query("create table there tablespace apart as select generate_series(1, 7000) as n");
    let oid: u32 = server
        .query("select oid from pg_tablespace where spcname = 'apart'")
        .parse()
        .expect("an OID");

    let options = BaseBackupOptions {
        label: "it's a \"label\" \\ größer".to_owned(),
        ..BaseBackupOptions::default()
    };
    let mut stream = server
        .connect()
        .await
        .base_backup(options)
        .await
        .expect("begun");
    let start = *stream.start();
    let [apart, whole] = stream.tablespaces() else {
        panic!("two: {:?}", stream.tablespaces());
    };
    assert_eq!(apart.oid, Some(oid));
    assert_eq!(apart.path, space.to_str().expect("text"));
    assert_eq!((whole.oid, whole.path.as_str()), (None, ""));
    let estimate = whole.size_kib.expect("a size") + apart.size_kib.expect("a size");
    // Rows that come while it is taken are in the WAL that it needs.
    server.query("insert into here select generate_series(5001, 6000)");
    let taken = Taken::read(&mut stream).await.expect("a backup");
    assert_eq!(taken.archives, [Some(oid), None]);
    assert!(taken.stop.0 > start.lsn, "{:?} after {start:?}", taken.stop);
    assert_eq!((taken.stop.1, start.timeline.get()), (start.timeline, 1));
    assert!(estimate.abs_diff(taken.bytes / 1024) < estimate / 4);
    // A server of version 14 reports none.
    if reports_progress(&server) {
        assert!(taken.progress > taken.bytes / 2 && taken.progress <= taken.bytes);
    }
    assert!(stream.notices().is_empty(), "{:?}", stream.notices());
    stream.next().await.expect_err("nothing after the end");

    let folder = taken.unpacked(&server);
    let data = folder.path().join("data");
    let label = std::fs::read_to_string(data.join("backup_label")).expect("a label");
    assert!(
        label.contains("LABEL: it's a \"label\" \\ größer\n"),
        "{label}"
    );
    assert!(
        label.contains(&format!("START WAL LOCATION: {} ", start.lsn)),
        "{label}"
    );
    let map = data.join("tablespace_map");
    let text = std::fs::read_to_string(&map).expect("a map");
    assert_eq!(text, format!("{oid} {}\n", space.display()));
    // Our link says where it lies now.
    #[expect(clippy::disallowed_methods, reason = "the test's own copy")]
    std::fs::remove_file(map).expect("gone");
    let mut wal = std::process::Command::new("cp");
    wal.args(["-a", "--"])
        .arg(server.data().join("pg_wal/."))
        .arg(data.join("pg_wal"));
    run(&mut wal);
    let restored = Server::of_backup(folder);
    let count = "select (select count(*) from here), (select count(*) from there)";
    assert_eq!(restored.query(count), "6000|7000");
    assert_eq!(
        restored.query("show data_directory"),
        restored.data().to_str().expect("text")
    );
}

fn reports_progress(server: &Server) -> bool {
    let version = server.query("show server_version_num");
    version.parse::<u32>().expect("a number") >= 150_000
}

#[tokio::test]
async fn a_standby_gives_a_backup_too() {
    let server = Server::new(&[], "");
    server.stop("fast");
    server.place(&server.data().join("standby.signal"), "");
    server.start();
    let connection = server.connect().await;
    let mut stream = connection
        .base_backup(BaseBackupOptions::default())
        .await
        .expect("begun");
    let taken = Taken::read(&mut stream).await.expect("a backup");
    let folder = taken.unpacked(&server);
    let label = std::fs::read_to_string(folder.path().join("data/backup_label")).expect("a label");
    assert!(label.contains("BACKUP FROM: standby"), "{label}");
}

#[tokio::test]
async fn a_backup_does_not_wait_for_an_archiver_that_fails() {
    let server = Server::new(&[], "archive_mode = on\narchive_command = 'false'");
    let connection = server.connect().await;
    let mut stream = connection
        .base_backup(BaseBackupOptions::default())
        .await
        .expect("begun");
    let reading = Taken::read(&mut stream);
    let taken = tokio::time::timeout(Duration::from_secs(30), reading).await;
    taken.expect("it ends").expect("a backup");
}

#[tokio::test]
async fn a_rate_is_kept_and_refused_if_it_is_none() {
    let server = Server::new(&[], "");
    let options = BaseBackupOptions {
        max_rate: Some(8 << 10),
        ..BaseBackupOptions::default()
    };
    let mut stream = server
        .connect()
        .await
        .base_backup(options)
        .await
        .expect("begun");
    let began = Instant::now();
    let taken = Taken::read(&mut stream).await.expect("a backup");
    let least = Duration::from_secs_f64(taken.bytes as f64 / f64::from(8 << 20));
    let took = began.elapsed();
    assert!(took > least.mul_f64(0.8), "{took:?} of {least:?}");
    assert!(took < least.mul_f64(4.0), "{took:?} of {least:?}");

    let options = BaseBackupOptions {
        max_rate: Some(1),
        ..BaseBackupOptions::default()
    };
    let begun = server.connect().await.base_backup(options).await;
    assert!(begun.is_err());
}

/// Nothing is read that nobody asked for: what the server has sent lies in the kernel's
/// buffers and in one of ours.
#[tokio::test]
async fn a_reader_that_rests_holds_up_the_server() {
    let server = Server::new(&[], "");
    server.query(
        "create table filler as select repeat('x', 500), n from generate_series(1, 40000) n",
    );
    let connection = server.connect().await;
    let mut stream = connection
        .base_backup(BaseBackupOptions::default())
        .await
        .expect("begun");
    while !matches!(stream.next().await.expect("an event"), BackupEvent::Data(_)) {}
    let streamed = || -> u64 {
        let sent = server.query("select backup_streamed from pg_stat_progress_basebackup");
        sent.parse().expect("a number")
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = streamed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(streamed(), before, "it goes on without a reader");
    assert!(before < 4 << 20, "{before} bytes were sent");
    // And goes on when there is one.
    let mut bytes = 0;
    loop {
        match stream.next().await.expect("an event") {
            BackupEvent::Data(data) => bytes += data.len(),
            BackupEvent::End { .. } => break,
            _ => {}
        }
    }
    assert!(bytes > 20 << 20, "{bytes}");
}
