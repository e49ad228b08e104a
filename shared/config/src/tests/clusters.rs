use secrecy::ExposeSecret as _;

use super::Given;
use crate::{Clusters, Connections, Worker};

fn refused(file: &str, why: &str) {
    let problems = Given::nothing()
        .file(file)
        .get::<Clusters>()
        .unwrap_err()
        .to_string();
    assert!(problems.contains(why), "{file}: {problems}");
}

#[test]
fn several_clusters_have_prefixes_directories_and_queues_of_their_own() {
    let file = "
[clusters.main]
directories = ['new=/a', 'old=/b']
[clusters.sales]
prefix = 'sales/'
directories = '/c'
queue = 'sales'
";
    let clusters = Given::nothing().file(file).get::<Clusters>().unwrap();
    assert!(clusters.only().is_none());
    let main = clusters.get("main").unwrap();
    let sales = clusters.get("sales").unwrap();
    let names: Vec<&str> = main.directories.iter().map(|d| d.name.as_str()).collect();
    assert_eq!((names, main.prefix.as_str()), (vec!["new", "old"], "wal/"));
    assert_eq!(
        (sales.directories[0].name.as_str(), sales.prefix.as_str()),
        ("main", "sales/")
    );
    let queues: Vec<String> = clusters.queues().iter().map(ToString::to_string).collect();
    assert_eq!(queues, ["backups", "sales"]);
}

#[test]
fn two_directories_of_a_cluster_have_two_names() {
    refused(
        "[clusters.main]\ndirectories = ['/a', '/b']",
        "two directories are named `main`",
    );
}

#[test]
fn two_clusters_never_share_a_prefix_or_a_part_of_one() {
    for other in ["wal/", "wal/sales/"] {
        let file =
            format!("[clusters.main]\n[clusters.sales]\nprefix = '{other}'\ndirectories = '/c'");
        refused(&file, "overlaps");
    }
    Given::nothing()
        .file("[clusters.main]\nprefix = 'wal/'\n[clusters.sales]\nprefix = 'wal-sales/'\ndirectories = '/c'")
        .get::<Clusters>()
        .unwrap();
}

#[test]
fn two_directories_never_lie_in_each_other() {
    for (one, two) in [
        ("/wal", "/wal"),
        ("/wal", "/wal/sales"),
        ("/wal/sales", "/wal/"),
    ] {
        let file = format!(
            "[clusters.main]\ndirectories = '{one}'\n[clusters.sales]\nprefix = 'sales/'\ndirectories = '{two}'"
        );
        refused(&file, "overlaps");
    }
}

#[test]
fn the_old_directory_variable_is_never_dropped_in_silence() {
    let file = "[clusters.sales]\nprefix = 'sales/'\ndirectories = '/c'";
    let given = Given::nothing()
        .file(file)
        .variable("WAL_ARCHIVE_DIR", "/srv/wal");
    let problems = given.get::<Clusters>().unwrap_err().to_string();
    assert!(
        problems.contains("no cluster is named `main`"),
        "{problems}"
    );
}

#[test]
fn a_cluster_needs_a_prefix_a_directory_and_a_proper_name() {
    refused(
        "[clusters.sales]\ndirectories = '/c'",
        "`clusters.sales.prefix`: not set",
    );
    refused(
        "[clusters.sales]\nprefix = 'sales/'",
        "`clusters.sales.directories`: not set",
    );
    refused("[clusters.main]\ndirectories = []", "no directory");
    refused(
        "[clusters.main]\ndirectories = 'relative'",
        "is not an absolute path",
    );
    refused("[clusters.main]\nprefix = '../x/'", "is not a key prefix");
    refused(
        "[clusters.Sales]\nprefix = 'sales/'\ndirectories = '/c'",
        "`Sales` is not a name",
    );
}

#[test]
fn a_worker_serves_everything_or_what_it_is_told() {
    let file = "
[clusters.main]
directories = ['new=/a', 'old=/b']
[clusters.sales]
prefix = 'sales/'
directories = '/c'
queue = 'sales'
";
    let served = |given: &Given| {
        let worker = given.get::<Worker>().unwrap();
        let queues: Vec<String> = worker.queues.iter().map(ToString::to_string).collect();
        let directories: Vec<String> = worker
            .directories
            .iter()
            .map(|s| format!("{}/{}", s.cluster, s.directory))
            .collect();
        format!("{} | {}", queues.join(" "), directories.join(" "))
    };
    let given = Given::nothing().file(file);
    assert_eq!(
        served(&given),
        "backups sales | main/new main/old sales/main"
    );
    let given = given
        .variable("WALFERRY_WORKER_QUEUES", "sales,sales")
        .variable("WALFERRY_WORKER_DIRECTORIES", "sales/main,sales/main");
    assert_eq!(served(&given), "sales | sales/main");
    let given = given.variable("WALFERRY_WORKER_DIRECTORIES", "sales/new");
    let problems = given.get::<Worker>().unwrap_err().to_string();
    assert!(
        problems.contains("choose among main/new, main/old, sales/main"),
        "{problems}"
    );
}

#[test]
fn a_base_backup_comes_from_its_own_url_else_from_the_one_that_is_asked_for_figures() {
    let file = "
[clusters.main]
connection = 'postgres://watch@primary/postgres'
[clusters.sales]
prefix = 'sales/'
directories = '/c'
connection = 'postgres://watch@sales/postgres'
replication = 'postgres://copy@standby/postgres'
[clusters.quiet]
prefix = 'quiet/'
directories = '/d'
";
    let connections = Given::nothing().file(file).get::<Connections>().unwrap();
    let from = |cluster: &str| {
        let url = connections.replication(cluster)?;
        Some(url.expose_secret().to_owned())
    };
    assert_eq!(
        from("main").as_deref(),
        Some("postgres://watch@primary/postgres")
    );
    assert_eq!(
        from("sales").as_deref(),
        Some("postgres://copy@standby/postgres")
    );
    assert_eq!(from("quiet"), None);
    let asked = connections.get("sales").unwrap().expose_secret();
    assert_eq!(asked, "postgres://watch@sales/postgres");
    assert!(!connections.libpq().names_server());
}

#[test]
fn libpqs_variables_are_known_and_its_password_is_in_no_message() {
    let given = Given::nothing()
        .variable("PGHOST", "/var/run/postgresql")
        .variable("PGPASSWORD", "planted")
        .variable("HOME", "/root")
        .variable("PATH", "/usr/bin");
    let connections = given.get::<Connections>().unwrap();
    let libpq = connections.libpq();
    assert!(libpq.names_server());
    let names: Vec<&str> = libpq.variables().keys().map(String::as_str).collect();
    assert_eq!(names, ["HOME", "PGHOST", "PGPASSWORD"]);
    assert!(!format!("{connections:?}").contains("planted"));
    let user_alone = Given::nothing().variable("PGUSER", "postgres");
    let connections = user_alone.get::<Connections>().unwrap();
    assert!(!connections.libpq().names_server());
}
