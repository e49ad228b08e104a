use std::os::unix::fs::PermissionsExt as _;

use super::super::address::Host;
use super::*;

fn parse(text: &str) -> Result<ServerSettings, SettingsError> {
    // A home without a password file, whoever runs the test.
    let home = BTreeMap::from([("HOME".to_owned(), "/nowhere".to_owned())]);
    ServerSettings::from_url_and_environment(&SecretString::from(text), &home)
}

fn good(text: &str) -> ServerSettings {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    let home = [("HOME", "/nowhere")];
    let variables = home.iter().chain(variables);
    variables
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn password(settings: &ServerSettings) -> Option<&str> {
    let password = settings.addresses[0].password.as_ref();
    password.map(|password| password.expose_secret())
}

fn check(text: &str, shown: &str) {
    assert_eq!(good(text).shown(), shown, "{text}");
}

#[test]
fn each_part_of_a_url_is_understood() {
    let url = "postgresql://rep%40l:s%2Fe%3Acret@db.example:6000/app?sslmode=verify-full&sslrootcert=%2Fetc%2Fa%20b.pem&connect_timeout=7&application_name=x&options=-c%20geqo%3Doff&sslcert=/c.pem&sslkey=/k.pem";
    let settings = good(url);
    assert_eq!(settings.shown(), "rep@l@db.example:6000");
    assert_eq!(password(&settings), Some("s/e:cret"));
    assert_eq!(settings.ssl_mode, SslMode::VerifyFull);
    assert_eq!(settings.ssl_root_cert, Some(PathBuf::from("/etc/a b.pem")));
    assert_eq!(settings.connect_timeout, Duration::from_secs(7));
    assert_eq!(settings.application_name, "x");
    assert_eq!(settings.options.as_deref(), Some("-c geqo=off"));
    let client = (PathBuf::from("/c.pem"), PathBuf::from("/k.pem"));
    assert_eq!(settings.ssl_client, Some(client));

    let least = good("postgresql://u@db");
    assert_eq!(least.shown(), "u@db:5432");
    assert_eq!(password(&least), None);
    assert_eq!(least.ssl_mode, SslMode::Prefer);
    assert_eq!(least.connect_timeout, Duration::from_secs(10));
    assert_eq!(least.application_name, "walferry");
}

#[test]
fn hosts_are_names_addresses_sockets_and_several() {
    check("postgres://u@[::1]:6000/", "u@[::1]:6000");
    check("postgres://u@[::1]", "u@[::1]:5432");
    check("postgres://u@a:1,b,c:3", "u@a:1,b:5432,c:3");
    check("postgres://u@a,b?port=7", "u@a:7,b:7");
    check("postgres://u@%2Frun%2Fpg:6000", "u@/run/pg:6000");
    check("postgres://u@/x?host=/run/pg", "u@/run/pg:5432");
    check("postgres://u@/", "u@/var/run/postgresql:5432");
    check("postgresql+psycopg2://u:p@db/app", "u@db:5432");
    check(
        "postgres://u@db?ssl=true&keepalives=1&replication=1",
        "u@db:5432",
    );
    check("host=db port=6000 user=u", "u@db:6000");
    check(r"user = 'u\'s x' host = /run/pg", "u's x@/run/pg:5432");
    let with_ip = good("host=db.example hostaddr=10.0.0.7 user=u");
    let expected = Host::Tcp {
        name: "db.example".to_owned(),
        ip: Some("10.0.0.7".parse().unwrap()),
    };
    assert_eq!(with_ip.addresses[0].host, expected);
}

#[test]
fn the_ssl_modes_are_libpqs() {
    for (query, mode) in [
        ("", SslMode::Prefer),
        ("sslmode=allow", SslMode::Prefer),
        ("sslmode=prefer", SslMode::Prefer),
        ("sslmode=disable", SslMode::Disable),
        ("sslmode=require", SslMode::Require),
        ("sslmode=require&sslrootcert=/a.pem", SslMode::VerifyCa),
        ("sslmode=require&sslrootcert=system", SslMode::Require),
        ("sslmode=verify-ca", SslMode::VerifyCa),
        ("sslmode=verify-full", SslMode::VerifyFull),
    ] {
        let settings = good(&format!("postgres://u@db?{query}"));
        assert_eq!(settings.ssl_mode, mode, "{query}");
    }
}

#[test]
fn libpqs_variables_are_understood_and_a_url_comes_before_them() {
    let variables = environment(&[
        ("PGHOST", "db"),
        ("PGPORT", "6000"),
        ("PGUSER", "u"),
        ("PGPASSWORD", "p"),
        ("PGDATABASE", "app"),
        ("PGSSLMODE", "verify-ca"),
        ("PGSSLROOTCERT", "/a.pem"),
        ("PGCONNECT_TIMEOUT", "3"),
        ("PGDATA", "/ignored"),
    ]);
    let settings = ServerSettings::from_environment(&variables).unwrap();
    assert_eq!(settings.shown(), "u@db:6000");
    assert_eq!(password(&settings), Some("p"));
    assert_eq!(settings.ssl_mode, SslMode::VerifyCa);
    assert_eq!(settings.ssl_root_cert, Some(PathBuf::from("/a.pem")));
    assert_eq!(settings.connect_timeout, Duration::from_secs(3));

    let url = SecretString::from("postgres://v@other?sslmode=disable");
    let both = ServerSettings::from_url_and_environment(&url, &variables).unwrap();
    assert_eq!(both.shown(), "v@other:6000");
    assert_eq!(both.ssl_mode, SslMode::Disable);
    assert_eq!(password(&both), Some("p"));

    let nothing = ServerSettings::from_environment(&environment(&[("PGUSER", "u")])).unwrap();
    assert_eq!(nothing.shown(), "u@/var/run/postgresql:5432");
    let socket = [("PGUSER", "u"), ("PGHOST", "/tmp/s"), ("PGPORT", "7")];
    let socket = ServerSettings::from_environment(&environment(&socket)).unwrap();
    assert_eq!(socket.addresses[0].host, Host::Socket("/tmp/s".into()));
    // Without PGUSER it is whoever runs this.
    let (own, _) = account().expect("the test's user has a name");
    let settings = ServerSettings::from_environment(&environment(&[("PGHOST", "db")])).unwrap();
    assert_eq!(settings.shown(), format!("{own}@db:5432"));
}

#[test]
fn a_password_file_is_found_by_variable_option_and_home() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".pgpass");
    std::fs::write(
        &path,
        "db:6000:replication:u:one\ndb:6000:app:u:two\nlocalhost:5432:*:u:three\n/run/x:*:*:*:four\n",
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = path.to_str().unwrap();
    let home = folder.path().to_str().unwrap();

    let by_option = good(&format!("postgres://u@db:6000?passfile={text}"));
    assert_eq!(password(&by_option), Some("one"));
    let variables = environment(&[
        ("PGPASSFILE", text),
        ("PGHOST", "db"),
        ("PGPORT", "6000"),
        ("PGUSER", "u"),
    ]);
    let by_variable = ServerSettings::from_environment(&variables).unwrap();
    assert_eq!(password(&by_variable), Some("one"));
    let url = SecretString::from("postgres://u@/");
    let mut variables = environment(&[]);
    variables.insert("HOME".to_owned(), home.to_owned());
    let by_home = ServerSettings::from_url_and_environment(&url, &variables).unwrap();
    assert_eq!(
        password(&by_home),
        Some("three"),
        "the default socket is localhost"
    );
    let url = SecretString::from("postgres://u@%2Frun%2Fx");
    let socket = ServerSettings::from_url_and_environment(&url, &variables).unwrap();
    assert_eq!(password(&socket), Some("four"));
    let each = good(&format!(
        "postgres://u@nowhere,db:6000?passfile={text}&port=6000"
    ));
    assert!(each.addresses[0].password.is_none() && each.addresses[1].password.is_some());
    let given = good(&format!("postgres://u:own@db:6000?passfile={text}"));
    assert_eq!(password(&given), Some("own"));

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = good(&format!("postgres://u@db:6000?passfile={text}"));
    assert_eq!(password(&open), None);
    let note = open.passfile_note.expect("a reason");
    assert!(
        note.contains("0644") && note.contains("chmod 0600"),
        "{note}"
    );
}

#[test]
fn what_cannot_be_done_is_refused_and_no_password_shown() {
    for text in [
        "",
        "hunter2",
        "mysql://u:hunter2@db",
        "postgres://u:hunter2@db?sslmode=hunter2",
        "postgres://u:hunter2@db:port",
        "postgres://u:hunter2@db:0",
        "postgres://u:hunter2@db?sslcrl=/x",
        "postgres://u:hunter2@db?hunter2=1",
        "postgres://u:hunter2@db?hunter2",
        "postgres://u:hunter2@db?channel_binding=require",
        "postgres://u:hunter2@db?require_auth=gss",
        "postgres://u:hunter2@db?service=hunter2",
        "postgres://u:hunter2@db?target_session_attrs=read-write",
        "postgres://u:hunter2@db?sslcert=/x",
        "postgres://u:hunter2@db?connect_timeout=hunter2",
        "postgres://u:hunter2@db?hostaddr=hunter2",
        "postgres://u:hunter2@a,b?port=1,2,3",
        "postgres://u:hunter2@[::1",
        "postgres://u:%FF@db",
        "password=hunter2 host",
        "host='db password=hunter2",
        "Hunter2!x=1",
    ] {
        let error = parse(text).expect_err(text);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{text}: {shown}");
        assert!(!shown.contains("Hunter2"), "{text}: {shown}");
    }
    let settings = good("postgres://u:hunter2@db");
    let shown = format!("{settings:?} {}", settings.shown());
    assert!(!shown.contains("hunter2"), "{shown}");
}
