//! Who is let in, and what the others are told.

use std::os::unix::fs::PermissionsExt as _;

use walferry_replication::{ReplicationError, Retry};

use crate::chain;
use crate::server::{Server, admitted, refused};

#[tokio::test]
async fn each_way_to_show_a_password_works_and_a_wrong_one_does_not() {
    let server = Server::new(&[], "");
    admitted(&server.url("trusted", "")).await;
    admitted(&server.url("md5er:five", "")).await;
    admitted(&server.url("scrammer:open%20s%C3%A9same", "")).await;

    for user in ["md5er:six", "scrammer:six"] {
        let error = refused(&server.url(user, "")).await;
        let text = chain(&error);
        assert!(
            matches!(error, ReplicationError::Authentication { .. }),
            "{text}"
        );
        assert!(text.contains("the password is wrong"), "{text}");
        assert!(!text.contains("six"), "{text}");
        assert_eq!(error.retry(), Retry::Operator);
    }
    for user in ["md5er", "scrammer"] {
        let error = refused(&server.url(user, "passfile=/nowhere")).await;
        let text = chain(&error);
        assert!(
            matches!(error, ReplicationError::NoPassword { .. }),
            "{text}"
        );
        assert!(text.contains("PGPASSWORD"), "{text}");
    }
    let error = refused(&server.url("clear:clear", "")).await;
    assert!(
        matches!(error, ReplicationError::ClearText { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn the_password_file_is_used_and_one_that_others_can_read_is_named() {
    let server = Server::new(&[], "");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pass");
    let port = server.port;
    let lines = format!("*:*:*:nobody:x\n127.0.0.1:{port}:replication:scrammer:open sésame\n");
    std::fs::write(&path, lines).expect("a file");
    let mode = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, mode).expect("chmod");
    };
    mode(0o600);
    let url = server.url("scrammer", &format!("passfile={}", path.display()));
    admitted(&url).await;
    mode(0o644);
    let text = chain(&refused(&url).await);
    assert!(text.contains("chmod 0600"), "{text}");
}

#[tokio::test]
async fn who_may_not_replicate_is_told_what_to_do() {
    let server = Server::new(&[], "max_wal_senders = 1");
    let error = refused(&server.url("plain", "")).await;
    let text = chain(&error);
    assert!(
        matches!(error, ReplicationError::NotPermitted { .. }),
        "{text}"
    );
    assert!(text.contains("ALTER ROLE \"plain\" REPLICATION"), "{text}");
    let error = refused(&server.url("unlisted", "")).await;
    let text = chain(&error);
    assert!(
        matches!(error, ReplicationError::Authentication { .. }),
        "{text}"
    );
    assert!(
        text.contains("pg_hba.conf needs a line for database `replication`"),
        "{text}"
    );

    let first = server.connect().await;
    let error = refused(&server.url("trusted", "")).await;
    let text = chain(&error);
    assert!(matches!(error, ReplicationError::NoSlots { .. }), "{text}");
    assert!(text.contains("max_wal_senders"), "{text}");
    assert_eq!(error.retry(), Retry::Later);
    drop(first);
}

#[tokio::test]
async fn the_next_host_is_tried_when_one_is_away() {
    let server = Server::new(&[], "");
    let folder = server.folder.path().display();
    let port = server.port;
    let away = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = away.local_addr().expect("an address").port();
    drop(away);
    admitted(&format!(
        "host=127.0.0.1,/nowhere,{folder} port={closed},1,{port} user=postgres"
    ))
    .await;
    // One that accepts and says nothing is not waited for longer than it was allowed.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().map(|at| (silent, at.port()));
    let (_listener, silent) = silent.expect("an address");
    admitted(&format!(
        "host=127.0.0.1,127.0.0.1 port={silent},{port} user=trusted connect_timeout=1"
    ))
    .await;
    let error = refused(&format!(
        "host=127.0.0.1 port={silent} user=trusted connect_timeout=1"
    ))
    .await;
    assert!(
        matches!(error, ReplicationError::ConnectTimeout { .. }),
        "{error}"
    );
}
