//! One PostgreSQL server for the whole binary, gone with it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use walferry_catalog::{Catalog, CatalogSettings};

pub(crate) const PASSWORD: &str = "secret-of-the-test";

/// Starts the server and waits for the end of its standard input, which comes when this
/// process ends however it ends; then stops the server and removes its files.
const SCRIPT: &str = r#"
trap '' INT HUP
bin=$1; dir=$2; port=$3
as_user() { if [ "$(id -u)" = 0 ]; then exec setpriv --reuid postgres --regid postgres --clear-groups "$@"; else exec "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown -R postgres "$dir"; fi
cd "$dir"
(as_user "$bin/initdb" -D "$dir/data" -U walferry -A scram-sha-256 --pwfile "$dir/password" --no-sync >"$dir/initdb.log" 2>&1) || { cat "$dir/initdb.log" >&2; exit 1; }
(as_user "$bin/postgres" -D "$dir/data" -c listen_addresses=127.0.0.1 -c port="$port" \
   -c unix_socket_directories= -c fsync=off -c max_connections=200 -c synchronous_commit=off \
   -c ssl="$4" -c ssl_cert_file="$dir/server.crt" -c ssl_key_file="$dir/server.key" </dev/null >"$dir/server.log" 2>&1) &
server=$!
cat >/dev/null
kill -INT $server; wait $server; rm -rf "$dir"
"#;

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) folder: std::path::PathBuf,
    _supervisor: Child,
}

/// The server, started by the first test that asks.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(start)
}

/// A database of the test's own, empty.
pub(crate) async fn database() -> String {
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    let (client, connection) = tokio_postgres::connect(&url("postgres"), tokio_postgres::NoTls)
        .await
        .expect("connect to the test server");
    let driver = tokio::spawn(connection);
    client
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await
        .expect("create a database");
    drop(client);
    driver.await.expect("driver").expect("connection ends");
    url(&name)
}

pub(crate) fn url(database: &str) -> String {
    let port = server().port;
    format!("postgresql://walferry:{PASSWORD}@127.0.0.1:{port}/{database}")
}

pub(crate) fn catalog(url: &str) -> Catalog {
    Catalog::new(settings(url)).expect("settings parse")
}

pub(crate) fn settings(url: &str) -> CatalogSettings {
    CatalogSettings::new(SecretString::from(url.to_owned()), "walferry-test")
}

fn start() -> Server {
    let bin = std::env::var("WALFERRY_POSTGRES_BIN")
        .unwrap_or_else(|_| "/usr/lib/postgresql/15/bin".to_owned());
    let folder = tempfile::Builder::new()
        .prefix("walferry-catalog-")
        .tempdir_in("/tmp")
        .expect("temporary folder")
        .keep();
    std::fs::write(folder.join("password"), PASSWORD).expect("write the password");
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("free port")
        .port();
    certificates(&folder);
    let supervisor = Command::new("sh")
        .args(["-c", SCRIPT, "postgres-of-the-test", &bin])
        .arg(&folder)
        .arg(port.to_string())
        .arg("on")
        .stdin(Stdio::piped())
        .spawn()
        .expect("start the server's supervisor");
    let deadline = Instant::now() + Duration::from_secs(60);
    // A port that accepts is not yet a server that lets anybody in.
    while !std::fs::read_to_string(folder.join("server.log"))
        .unwrap_or_default()
        .contains("database system is ready to accept connections")
    {
        assert!(
            Instant::now() < deadline,
            "PostgreSQL did not start: {}",
            std::fs::read_to_string(folder.join("server.log")).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Server {
        port,
        folder,
        _supervisor: supervisor,
    }
}

/// An authority, a server certificate of it for `localhost`, and another authority.
fn certificates(folder: &std::path::Path) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .output()
            .expect("openssl runs");
        assert!(
            output.status.success(),
            "openssl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    for name in ["ca", "other-ca"] {
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &format!("{name}.key"),
            "-out",
            &format!("{name}.crt"),
            "-days",
            "2",
            "-subj",
            &format!("/CN={name} of the test"),
            "-addext",
            "basicConstraints=critical,CA:TRUE",
        ]);
    }
    openssl(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
        "-subj",
        "/CN=localhost",
    ]);
    std::fs::write(
        folder.join("server.ext"),
        "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )
    .expect("write the extension file");
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "server.crt",
        "-days",
        "2",
        "-extfile",
        "server.ext",
    ]);
}
