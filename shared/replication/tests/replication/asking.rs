//! IDENTIFY_SYSTEM, SHOW, TIMELINE_HISTORY.

use walferry_replication::{ReplicationError, Retry};
use walferry_wal::{History, TimelineId};

use crate::server::Server;

#[tokio::test]
async fn a_server_says_who_it_is() {
    let server = Server::new(&["--wal-segsize=4"], "");
    let mut connection = server.connect().await;
    let identity = connection.identify().await.expect("identify");
    let system = server.query("select system_identifier from pg_control_system()");
    assert_eq!(identity.system_id.to_string(), system);
    assert_eq!(identity.timeline.get(), 1);
    let later = server.query("select pg_current_wal_lsn()");
    assert!(identity.position <= later.parse().expect("a position"));
    assert!(identity.position.get() > 0);
    let size = connection.segment_size().await.expect("a size");
    assert_eq!(size.bytes(), 4 << 20);
    let version = server.query("show server_version_num");
    assert_eq!(connection.server_version().to_string(), version);
    assert!(!connection.in_recovery().await.expect("a state"));
    let port = connection.show("port").await.expect("a setting");
    assert_eq!(port, server.port.to_string());
    // What the server and its log see.
    let seen = server
        .query("select backend_type from pg_stat_activity where application_name = 'walferry'");
    assert_eq!(seen, "walsender");

    // Errors leave the connection as it was.
    let error = connection.show("no_such_setting").await.expect_err("none");
    assert_eq!(error.server_message().expect("the server's").code, "42704");
    for bad in ["", "x;y", "x y", "1x", "x..y", "\"x\""] {
        let error = connection.show(bad).await.expect_err(bad);
        assert!(
            matches!(error, ReplicationError::Argument { .. }),
            "{error}"
        );
    }
    for timeline in [1, 7] {
        let timeline = TimelineId::new(timeline).expect("a timeline");
        let history = connection.timeline_history(timeline).await.expect("asked");
        assert_eq!(history, None);
    }
    connection.identify().await.expect("still connected");
}

#[tokio::test]
async fn a_promoted_standby_has_a_history() {
    let server = Server::new(&[], "");
    server.stop("fast");
    server.place(&server.data().join("standby.signal"), "");
    server.start();
    let mut connection = server.connect().await;
    assert!(connection.in_recovery().await.expect("a state"));
    server.promote();
    assert!(!connection.in_recovery().await.expect("a state"));
    let second = TimelineId::new(2).expect("a timeline");
    assert_eq!(
        connection.identify().await.expect("identify").timeline,
        second
    );
    let history = connection.timeline_history(second).await.expect("asked");
    let history = history.expect("a history");
    let file = std::fs::read(server.data().join("pg_wal/00000002.history")).expect("the file");
    assert_eq!(history, file);
    let parsed = History::parse(second, &history).expect("a history");
    assert_eq!(parsed.entries[0].parent.get(), 1);
}

#[tokio::test]
async fn a_server_that_goes_away_is_an_error_that_may_pass() {
    let server = Server::new(&[], "");
    let mut connection = server.connect().await;
    let url = server.url("trusted", "");
    server.stop("immediate");
    let error = connection.identify().await.expect_err("it is gone");
    assert_ne!(error.retry(), Retry::Operator, "{error}");
    let error = crate::server::refused(&url).await;
    assert!(
        matches!(error, ReplicationError::Unreachable { .. }),
        "{error}"
    );
    assert_eq!(error.retry(), Retry::Later);
}
