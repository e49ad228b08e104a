use std::time::Duration;

use walferry_catalog::{Catalog, CatalogError, Retry, server};

use crate::postgres;

#[tokio::test]
async fn a_commit_is_durable_whatever_the_server_or_the_role_says() {
    use diesel_async::SimpleAsyncConnection as _;
    let url = postgres::database().await;
    let database = url.rsplit('/').next().unwrap();
    let catalog = postgres::catalog(&url);
    // The test's server says synchronous_commit = off, and now the database does too.
    catalog
        .get_unchecked()
        .await
        .unwrap()
        .batch_execute(&format!(
            "ALTER DATABASE {database} SET synchronous_commit = off"
        ))
        .await
        .unwrap();
    let fresh = postgres::catalog(&url);
    let mut conn = fresh.get_unchecked().await.unwrap();
    let durability = server::durability(&mut conn).await.unwrap();
    assert_eq!(durability.synchronous_commit, "on");
    assert!(!durability.fsync, "the test's server runs without fsync");
}

#[tokio::test]
async fn a_program_starts_while_the_catalog_is_down() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let catalog = postgres::catalog(&format!("postgresql://u:p@127.0.0.1:{port}/catalog"));
    let error = catalog.get().await.err().expect("nobody listens");
    assert!(
        matches!(error, CatalogError::Unreachable { .. }),
        "{error:?}"
    );
    assert_eq!(error.retry(), Retry::Later);
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_server_that_accepts_and_keeps_silent_is_given_up_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut settings = postgres::settings(&format!("postgresql://u:p@127.0.0.1:{port}/catalog"));
    settings.connect_timeout = Duration::from_millis(300);
    let error = Catalog::new(settings).unwrap().get().await.err().unwrap();
    assert!(
        matches!(error, CatalogError::ConnectTimeout { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn each_refusal_is_told_apart() {
    let good = postgres::database().await;
    let wrong = good.replace(postgres::PASSWORD, "hunter2");
    let error = postgres::catalog(&wrong).get().await.err().unwrap();
    assert!(
        matches!(error, CatalogError::Authentication { .. }),
        "{error:?}"
    );
    assert_eq!(error.retry(), Retry::Operator);
    let error = postgres::catalog(&format!("{good}_absent"))
        .get()
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, CatalogError::NoDatabase { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_lost_session_is_replaced_by_the_next_get() {
    use diesel_async::SimpleAsyncConnection as _;
    let url = postgres::database().await;
    let mut settings = postgres::settings(&url);
    settings.pool_size = 1;
    let catalog = Catalog::new(settings).unwrap();
    let mut conn = catalog.get_unchecked().await.unwrap();
    let killed: CatalogError = conn
        .batch_execute("SELECT pg_terminate_backend(pg_backend_pid())")
        .await
        .expect_err("the session is killed")
        .into();
    assert!(
        matches!(killed, CatalogError::Disconnected(_)),
        "{killed:?}"
    );
    drop(conn);
    let mut conn = catalog.get_unchecked().await.expect("a new session");
    server::now(&mut conn).await.expect("works");
}

#[tokio::test]
async fn a_read_only_catalog_says_so() {
    use diesel_async::SimpleAsyncConnection as _;
    let catalog = postgres::catalog(&postgres::database().await);
    let mut conn = catalog.get_unchecked().await.unwrap();
    conn.batch_execute("SET default_transaction_read_only = on")
        .await
        .unwrap();
    let error: CatalogError = conn
        .batch_execute("CREATE TABLE t (a int)")
        .await
        .expect_err("read-only")
        .into();
    assert!(matches!(error, CatalogError::ReadOnly(_)), "{error:?}");
    assert!(error.hint().unwrap().contains("standby"));
}

#[tokio::test]
async fn the_system_id_of_the_catalogs_server_is_known() {
    let catalog = postgres::catalog(&postgres::database().await);
    let mut conn = catalog.get_unchecked().await.unwrap();
    let id = server::system_id(&mut conn).await.unwrap();
    assert!(id.get() > 1 << 32, "{id}");
}

/// The server's certificate is for `localhost`, from the authority in `ca.crt`.
async fn tls(url: &str, query: &str) -> Result<(), CatalogError> {
    let folder = postgres::server().folder.display().to_string();
    let query = query.replace("FOLDER", &folder);
    let catalog = postgres::catalog(&format!("{url}?{query}"));
    catalog.get_unchecked().await.map(drop)
}

#[tokio::test]
async fn verify_full_accepts_only_the_named_host_with_a_known_authority() {
    let by_address = postgres::database().await;
    let by_name = by_address.replace("127.0.0.1", "localhost");
    for (url, query, accepted) in [
        (
            &by_name,
            "sslmode=verify-full&sslrootcert=FOLDER/ca.crt",
            true,
        ),
        (
            &by_address,
            "sslmode=verify-full&sslrootcert=FOLDER/ca.crt",
            false,
        ),
        (
            &by_name,
            "sslmode=verify-full&sslrootcert=FOLDER/other-ca.crt",
            false,
        ),
        (
            &by_address,
            "sslmode=verify-ca&sslrootcert=FOLDER/ca.crt",
            true,
        ),
        (
            &by_address,
            "sslmode=verify-ca&sslrootcert=FOLDER/other-ca.crt",
            false,
        ),
        (
            &by_address,
            "sslmode=require&sslrootcert=FOLDER/other-ca.crt",
            false,
        ),
        (&by_address, "sslmode=require", true),
        (&by_address, "sslmode=prefer", true),
        (&by_address, "sslmode=disable", true),
    ] {
        let result = tls(url, query).await;
        match (accepted, &result) {
            (true, Ok(())) => {}
            (false, Err(error @ CatalogError::Tls { .. })) => {
                assert!(error.hint().unwrap().contains("sslrootcert"));
            }
            _ => panic!("{query} at {}: {result:?}", url.contains("localhost")),
        }
    }
}

#[tokio::test]
async fn require_really_encrypts() {
    use diesel_async::RunQueryDsl;
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        ssl: bool,
    }
    let url = postgres::database().await;
    for (mode, encrypted) in [("require", true), ("prefer", true), ("disable", false)] {
        let catalog = postgres::catalog(&format!("{url}?sslmode={mode}"));
        let mut conn = catalog.get_unchecked().await.unwrap();
        let row = diesel::sql_query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .get_result::<Row>(&mut *conn)
            .await
            .unwrap();
        assert_eq!(row.ssl, encrypted, "{mode}");
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_can_be_a_setting() {
    let by_name = postgres::database().await.replace("127.0.0.1", "localhost");
    let mut settings = postgres::settings(&format!("{by_name}?sslmode=verify-full"));
    assert!(
        Catalog::new(settings.clone())
            .unwrap()
            .get_unchecked()
            .await
            .is_err()
    );
    settings.ca_certificates = Some(postgres::server().folder.join("ca.crt"));
    Catalog::new(settings.clone())
        .unwrap()
        .get_unchecked()
        .await
        .expect("accepted");
    settings.ca_certificates = Some(postgres::server().folder.join("absent.crt"));
    assert!(matches!(
        Catalog::new(settings),
        Err(CatalogError::CaCertificates { .. })
    ));
}

#[tokio::test]
async fn a_transaction_that_was_abandoned_keeps_no_lock() {
    use diesel_async::{AsyncConnection as _, SimpleAsyncConnection as _};
    let mut world = crate::world::World::new().await;
    world.register_segments(1).await;
    let mut abandoned = world.catalog.get().await.unwrap();
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let work = abandoned.transaction(async |conn| {
        conn.batch_execute("SELECT 1 FROM wal_files FOR UPDATE")
            .await?;
        locked.send(()).expect("the test waits");
        std::future::pending::<Result<(), diesel::result::Error>>().await
    });
    tokio::select! {
        _ = work => panic!("the transaction never ends"),
        _ = is_locked => {}
    }
    assert!(world.claim("w", 1).await.is_empty(), "the row is locked");
    drop(abandoned);
    world
        .sql("SET lock_timeout = '5s'; SELECT 1 FROM wal_files FOR UPDATE")
        .await;
    world.claim_one("w").await;
}

#[tokio::test]
async fn a_role_without_privileges_is_enough() {
    use diesel_async::SimpleAsyncConnection as _;
    let url = postgres::database().await;
    let database = url.rsplit('/').next().unwrap();
    let admin = postgres::catalog(&url);
    admin
        .get_unchecked()
        .await
        .unwrap()
        .batch_execute(&format!(
            "CREATE ROLE {database} LOGIN PASSWORD '{}'; ALTER DATABASE {database} OWNER TO {database}",
            postgres::PASSWORD
        ))
        .await
        .unwrap();
    let plain = postgres::catalog(&url.replace("//walferry:", &format!("//{database}:")));
    plain
        .migrate()
        .await
        .expect("migrate as the owner of the database");
    let mut conn = plain.get().await.unwrap();
    let id = server::system_id(&mut conn).await.unwrap();
    assert_eq!(
        id,
        server::system_id(&mut admin.get_unchecked().await.unwrap())
            .await
            .unwrap()
    );
}
