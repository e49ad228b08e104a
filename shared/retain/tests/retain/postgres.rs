//! One PostgreSQL server for the whole binary, gone with it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use walferry_catalog::{Catalog, CatalogSettings};

/// Starts the server and waits for the end of its standard input, which comes when this
/// process ends however it ends; then stops the server and removes its files.
const SCRIPT: &str = r#"
trap '' INT HUP
bin=$1; dir=$2; port=$3
as_user() { if [ "$(id -u)" = 0 ]; then exec setpriv --reuid postgres --regid postgres --clear-groups "$@"; else exec "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown -R postgres "$dir"; fi
cd "$dir"
(as_user "$bin/initdb" -D "$dir/data" -U walferry -A trust --no-sync >"$dir/initdb.log" 2>&1) || { cat "$dir/initdb.log" >&2; exit 1; }
(as_user "$bin/postgres" -D "$dir/data" -c listen_addresses=127.0.0.1 -c port="$port" \
   -c unix_socket_directories= -c fsync=off -c max_connections=300 </dev/null >"$dir/server.log" 2>&1) &
server=$!
cat >/dev/null
kill -INT $server; wait $server; rm -rf "$dir"
"#;

struct Server {
    port: u16,
    _supervisor: Child,
}

/// A migrated catalog in a database of the test's own.
pub(crate) async fn catalog() -> Catalog {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let port = SERVER.get_or_init(start).port;
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let url = |database: &str| format!("postgresql://walferry@127.0.0.1:{port}/{database}");
    let (client, connection) = connect(&url("postgres")).await;
    let driver = tokio::spawn(connection);
    client
        .batch_execute(&format!("CREATE DATABASE test_{number}"))
        .await
        .expect("create a database");
    drop(client);
    driver.await.expect("driver").expect("connection ends");
    let url = SecretString::from(url(&format!("test_{number}")));
    let catalog = Catalog::new(CatalogSettings::new(url, "walferry-test")).expect("settings parse");
    catalog.migrate().await.expect("migrate");
    catalog
}

type Connected = (
    tokio_postgres::Client,
    tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>,
);

/// Connects as soon as the server lets anybody in.
async fn connect(url: &str) -> Connected {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match tokio_postgres::connect(url, tokio_postgres::NoTls).await {
            Ok(connected) => return connected,
            Err(error) => assert!(Instant::now() < deadline, "connect: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn start() -> Server {
    let bin = std::env::var("WALFERRY_POSTGRES_BIN")
        .unwrap_or_else(|_| "/usr/lib/postgresql/15/bin".to_owned());
    let folder = tempfile::Builder::new()
        .prefix("walferry-retain-")
        .tempdir_in("/tmp")
        .expect("temporary folder")
        .keep();
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("free port")
        .port();
    let supervisor = Command::new("sh")
        .args(["-c", SCRIPT, "postgres-of-the-test", &bin])
        .arg(&folder)
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .spawn()
        .expect("start the server's supervisor");
    Server {
        port,
        _supervisor: supervisor,
    }
}
