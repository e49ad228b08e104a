use secrecy::ExposeSecret;

use super::{Given, OLD_SYSTEM};
use crate::setting::{Key, settings};
use crate::{CatalogSettings, Kind, Repositories};

const PLANTED: &str = "planted";

/// Every secret that there is, of the default cluster and repositories.
fn secrets() -> Vec<Key> {
    let secrets: Vec<Key> = settings()
        .into_iter()
        .filter(|setting| setting.is_secret())
        .flat_map(|setting| match setting.name.split_once(".*") {
            None => vec![setting.of("")],
            Some(("clusters", _)) => vec![setting.of("main")],
            Some(_) => vec![setting.of("r2"), setting.of("b2")],
        })
        .collect();
    assert_eq!(
        secrets.len(),
        8,
        "catalog, redis, connection, replication, two keys of two clouds"
    );
    secrets
}

/// A value that is right, with the plant in it.
fn right(key: &Key) -> String {
    match (key.setting.kind, key.name.as_str()) {
        (Kind::SecretUrl, "redis.url") => format!("redis://u:{PLANTED}@h/0?p={PLANTED}"),
        (Kind::SecretUrl, _) => format!("postgres://{PLANTED}:{PLANTED}@h/db?password={PLANTED}"),
        _ => format!("key-{PLANTED}"),
    }
}

/// A value that is wrong, with the plant in it.
fn wrong(key: &Key) -> String {
    match key.setting.kind {
        Kind::SecretUrl => format!("{PLANTED}://{PLANTED} {PLANTED}@h:port"),
        _ => format!("{PLANTED} {PLANTED}"),
    }
}

fn plain_system() -> Given {
    let secret: Vec<String> = secrets().iter().flat_map(Key::environment).collect();
    OLD_SYSTEM
        .iter()
        .filter(|(name, _)| !secret.iter().any(|secret| secret == name))
        .fold(Given::nothing(), |given, (name, value)| {
            given.variable(name, value)
        })
}

/// Ways to say each secret: variable (ours and the old one), variable with a
/// path, line of the file, line with a path.
fn each_way(value: fn(&Key) -> String) -> Vec<(&'static str, Given)> {
    let mut ways = Vec::new();
    let variables = |given: Given, old: bool, path: bool| {
        secrets().iter().fold(given, |given, key| {
            let names = key.environment();
            let name = if old { names.last() } else { names.first() };
            let name = name.unwrap();
            if path {
                let path = given.secret_file(&key.name, &value(key));
                given.variable(&format!("{name}_FILE"), path.to_str().unwrap())
            } else {
                given.variable(name, &value(key))
            }
        })
    };
    ways.push(("environment", variables(plain_system(), false, false)));
    ways.push(("old environment", variables(plain_system(), true, false)));
    ways.push(("environment _FILE", variables(plain_system(), false, true)));
    ways.push((
        "old environment _FILE",
        variables(plain_system(), true, true),
    ));
    for path in [false, true] {
        let given = plain_system();
        let lines: Vec<String> = secrets()
            .iter()
            .map(|key| {
                if path {
                    let path = given.secret_file(&key.name, &value(key));
                    format!("{}_file = '{}'", key.name, path.display())
                } else {
                    format!("{} = '{}'", key.name, value(key))
                }
            })
            .collect();
        let way = if path { "file _file" } else { "file" };
        ways.push((way, given.file(&lines.join("\n"))));
    }
    ways
}

#[test]
fn no_secret_is_shown_by_debug_or_the_effective_listing_whatever_gave_it() {
    for (way, given) in each_way(right) {
        let config = given.load().unwrap();
        let worker = config
            .worker()
            .unwrap_or_else(|problems| panic!("{way}: {problems}"));
        // It is really in there, or the rest would prove nothing.
        let key = worker
            .repositories
            .iter()
            .next()
            .unwrap()
            .s3
            .secret_access_key
            .clone();
        assert!(key.expose_secret().contains(PLANTED), "{way}");
        assert!(
            worker.catalog.url.expose_secret().contains(PLANTED),
            "{way}"
        );
        assert!(
            worker.redis.settings.url.expose_secret().contains(PLANTED),
            "{way}"
        );
        let connection = worker.connections.get("main").unwrap();
        assert!(connection.expose_secret().contains(PLANTED), "{way}");
        let replication = worker.connections.replication("main").unwrap();
        assert!(replication.expose_secret().contains(PLANTED), "{way}");

        let everything = format!(
            "{config:?} {config:#?} {worker:?} {worker:#?} {:?} {:?}",
            config.effective(),
            config.scheduler().unwrap(),
        );
        assert!(!everything.contains(PLANTED), "{way}: {everything}");
        assert!(
            everything.contains("***"),
            "{way}: the listing shows that they are set"
        );
    }
}

#[test]
fn no_secret_is_shown_by_the_message_that_refuses_it() {
    for (way, given) in each_way(wrong) {
        let problems = given.load().unwrap().check().unwrap_err();
        assert!(problems.iter().count() >= 7, "{way}: {problems}");
        assert!(!problems.to_string().contains(PLANTED), "{way}: {problems}");
    }
}

#[test]
fn a_key_in_an_endpoints_url_is_refused_and_not_repeated() {
    for (endpoint, why) in [
        (
            "https://key:planted@host",
            "there is a user or key in the URL",
        ),
        ("key:planted@host", "is not an https:// URL"),
        ("//key:planted@host", "is not a URL"),
    ] {
        let given = Given::old_system().variable("CLOUDFLARE_R2_ENDPOINT_URL", endpoint);
        let config = given.load().unwrap();
        let problems = config.check().unwrap_err().to_string();
        assert!(problems.contains(why), "{problems}");
        let shown = format!("{problems} {:?}", config.effective());
        assert!(!shown.contains("planted"), "{shown}");
    }
}

#[test]
fn a_secret_where_the_path_of_its_file_belongs_is_refused_and_not_shown() {
    for (name, value) in [
        ("DATABASE_URL", "postgres://walferry:planted@h/db"),
        ("BACKBLAZE_B2_APPLICATION_KEY", "planted"),
    ] {
        let given = Given::old_system().without(name);
        let config = given.variable(&format!("{name}_FILE"), value).load();
        let config = config.unwrap();
        let problems = config.check().unwrap_err().to_string();
        assert!(problems.contains("not a path from the root"), "{problems}");
        assert!(problems.contains(&format!("{name}_FILE")), "{problems}");
        let shown = format!("{problems} {:?}", config.effective());
        assert!(!shown.contains("planted"), "{shown}");
    }
}

/// By the rules of URLs what stands before the `/` is host and port then, and what follows it
/// is a path, which messages show.
#[test]
fn a_password_that_ends_its_urls_host_is_refused_and_not_shown() {
    for url in [
        "postgres://walferry:12/planted@h/db",
        "postgres://walferry:/planted@h/db",
        "postgres://walferry:12?planted@h/db",
        "postgres://walferry:p@1#planted@h/db",
    ] {
        let given = Given::old_system().without("DATABASE_URL");
        let config = given.variable("DATABASE_URL", url).load().unwrap();
        let problems = config.check().unwrap_err().to_string();
        assert!(
            problems.contains("%-encode special characters"),
            "{problems}"
        );
        let shown = format!("{problems} {:?}", config.effective());
        assert!(
            !shown.contains("planted") && !shown.contains(":12"),
            "{shown}"
        );
    }
    // In a query an `@` is nothing odd.
    let given = Given::old_system().without("DATABASE_URL");
    given
        .variable("DATABASE_URL", "postgres://h/db?user=me@corp")
        .get::<CatalogSettings>()
        .unwrap();
}

#[test]
fn a_secret_is_no_flag_but_the_path_of_its_file_is_one() {
    let given = Given::old_system().set("catalog.url=postgres://u:planted@h/db");
    let problems = given.load().unwrap_err().to_string();
    assert!(problems.contains("a secret cannot be a flag"), "{problems}");
    assert!(!problems.contains("planted"), "{problems}");

    let given = Given::old_system();
    let path = given.secret_file("url", "postgres://u:from-file@h/db\n");
    let given = given.set(&format!("catalog.url_file={}", path.display()));
    let catalog = given.get::<CatalogSettings>().unwrap();
    assert_eq!(catalog.url.expose_secret(), "postgres://u:from-file@h/db");
}

#[test]
fn a_secret_file_is_read_without_its_line_end_and_must_hold_something() {
    let given = Given::old_system().without("BACKBLAZE_B2_APPLICATION_KEY");
    let path = given.secret_file("key", "from-file\n");
    let given = given.variable("BACKBLAZE_B2_APPLICATION_KEY_FILE", path.to_str().unwrap());
    let repositories = given.get::<Repositories>().unwrap();
    let b2 = repositories.get(&"b2".parse().unwrap()).unwrap();
    assert_eq!(b2.s3.secret_access_key.expose_secret(), "from-file");

    given.secret_file("key", "\n");
    let problems = given.get::<Repositories>().unwrap_err();
    assert!(
        given
            .stable(&problems.to_string())
            .contains("`<DIRECTORY>/key` is empty")
    );

    let gone = given.directory.path().join("gone");
    let given = given.variable("BACKBLAZE_B2_APPLICATION_KEY_FILE", gone.to_str().unwrap());
    let problems = given.get::<Repositories>().unwrap_err();
    assert!(
        given
            .stable(&problems.to_string())
            .contains("`<DIRECTORY>/gone` cannot be read")
    );
}

#[test]
fn a_secret_given_twice_is_refused_because_one_of_them_is_stale() {
    let given = Given::old_system();
    let path = given.secret_file("key", "another");
    for (name, value) in [
        ("BACKBLAZE_B2_APPLICATION_KEY_FILE", path.to_str().unwrap()),
        ("WALFERRY_REPOSITORIES_B2_SECRET_ACCESS_KEY", "another"),
    ] {
        let given = Given::old_system().variable(name, value);
        let problems = given.get::<Repositories>().unwrap_err().to_string();
        assert!(problems.contains("given twice"), "{problems}");
    }
    // Both names with one value are a system that is being moved over.
    Given::old_system()
        .variable("WALFERRY_REPOSITORIES_B2_SECRET_ACCESS_KEY", "b2-secret")
        .get::<Repositories>()
        .unwrap();
}

#[test]
fn the_environment_wins_over_the_file_for_secrets_in_either_form() {
    let given = Given::old_system();
    let path = given.secret_file("key", "from-the-file");
    let given = given.file(&format!("[catalog]\nurl_file = '{}'", path.display()));
    let catalog = given.get::<CatalogSettings>().unwrap();
    assert_eq!(
        catalog.url.expose_secret(),
        "postgres://walferry:pw@catalog/walferry"
    );
}
