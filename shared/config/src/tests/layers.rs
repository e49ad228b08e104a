use super::Given;
use crate::{Archive, Config, Effective, Environment, Log, PeriodicJob, Sources, Worker};

#[test]
fn the_old_systems_variables_alone_are_enough_to_run() {
    let config = Given::old_system().load().unwrap();
    config.check().unwrap();
    let worker = config.worker().unwrap();
    let main = worker.clusters.only().unwrap();
    assert_eq!((main.name.as_str(), main.prefix.as_str()), ("main", "wal/"));
    assert_eq!(main.directories[0].path.to_str(), Some("/srv/wal"));
    assert_eq!(main.queue.to_string(), "backups");
    let shown: Vec<String> = worker
        .repositories
        .iter()
        .map(|r| {
            format!(
                "{} {} {} {}",
                r.name, r.s3.region, r.s3.bucket, r.s3.conditional_put
            )
        })
        .collect();
    assert_eq!(
        shown,
        ["r2 auto wal-at-r2 true", "b2 us-east-005 wal-at-b2 false"]
    );
    assert_eq!(worker.repositories.required().len(), 2);
}

#[test]
fn the_archive_directory_has_the_old_systems_default() {
    let push = Given::nothing().load().unwrap().push().unwrap();
    let path = &push.directories[0].path;
    assert_eq!(path.to_str(), Some("/var/lib/postgresql/wal_archive"));
}

#[test]
fn push_and_the_scheduler_do_without_the_secret_of_the_protected_server() {
    for file in [
        "[clusters.main]\nconnection_file = '/gone'",
        "[clusters.main]\nconnection = 'no url'",
    ] {
        let config = Given::old_system().file(file).load().unwrap();
        config.push().unwrap();
        config.scheduler().unwrap();
        let problems = config.worker().unwrap_err().to_string();
        assert!(problems.contains("`clusters.main.connection"), "{problems}");
        config.check().unwrap_err();
    }
}

#[test]
fn push_stores_where_a_flag_or_else_the_servers_own_variable_or_else_the_file_says() {
    let paths = |given: &Given| -> Vec<String> {
        let push = given.load().unwrap().push().unwrap();
        let paths = push.directories.into_iter().map(|d| d.path);
        paths.map(|path| path.display().to_string()).collect()
    };
    // A shared file, of two clusters, none of them `main`.
    let given = Given::nothing().file(
        "[clusters.a]\nprefix = 'a/'\ndirectories = '/a'\n[clusters.b]\nprefix = 'b/'\ndirectories = '/b'",
    );
    assert_eq!(paths(&given), ["/a", "/b"]);
    let given = given.variable("WAL_ARCHIVE_DIR", "/b");
    assert_eq!(paths(&given), ["/b"]);
    let given = given.set("clusters.a.directories=/c");
    assert_eq!(paths(&given), ["/c"]);
}

#[test]
fn push_reads_the_list_that_the_worker_accepts_in_the_old_variable() {
    let push = |text: &str| {
        let given = Given::nothing().variable("WAL_ARCHIVE_DIR", text);
        given.load().unwrap().push()
    };
    let both = push("old=/a, new=/b").unwrap().directories;
    assert_eq!(both.len(), 2);
    let one = push("new=/b").unwrap().directories;
    assert_eq!(one[0].path.to_str(), Some("/b"));
    assert!(push("not/absolute").is_err());
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let level = |given: &Given| given.get::<Archive>().unwrap().level;
    let given = Given::nothing();
    assert_eq!(level(&given), 9);
    let given = given.file("[archive]\nlevel = 6");
    assert_eq!(level(&given), 6);
    let given = given.variable("WALFERRY_ARCHIVE_LEVEL", "5");
    assert_eq!(level(&given), 5);
    let given = given.set("archive.level=4");
    assert_eq!(level(&given), 4);
}

#[test]
fn each_value_says_where_it_came_from() {
    let given = Given::old_system()
        .file("[archive]\nlevel = 6\n\n[log]\nformat = \"json\"")
        .variable("WALFERRY_LOG_LEVEL", "debug")
        .set("retention.days=7");
    let effective = given.load().unwrap().effective();
    let origin = |name: &str| {
        let found: Vec<&Effective> = effective.iter().filter(|e| e.name == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        format!("{} | {}", found[0].value, given.stable(&found[0].origin))
    };
    assert_eq!(origin("archive.level"), "6 | <DIRECTORY>/walferry.toml:2");
    assert_eq!(origin("log.format"), "json | <DIRECTORY>/walferry.toml:5");
    assert_eq!(
        origin("log.level"),
        "debug | environment WALFERRY_LOG_LEVEL"
    );
    assert_eq!(origin("retention.days"), "7 | flag --set");
    assert_eq!(origin("archive.verify"), "head | default");
    assert_eq!(origin("worker.queues"), " | not set");
    assert_eq!(
        origin("redis.url"),
        "redis://redis:6379/0 | environment REDIS_URL"
    );
    assert_eq!(
        origin("catalog.url"),
        "postgres://***@catalog/walferry | environment DATABASE_URL"
    );
    let expected = "*** | environment BACKBLAZE_B2_APPLICATION_KEY";
    assert_eq!(origin("repositories.b2.secret_access_key"), expected);
}

#[test]
fn an_empty_variable_is_one_that_nobody_set() {
    let given = Given::nothing().variable("WALFERRY_ARCHIVE_LEVEL", "");
    assert_eq!(given.get::<Archive>().unwrap().level, 9);
    let given = given.file("[archive]\nlevel = 6");
    assert_eq!(given.get::<Archive>().unwrap().level, 6);
}

#[test]
fn a_value_that_is_not_text_is_told_and_not_bent_into_text() {
    let environment = Environment::default().with_bytes_that_are_not_text("WALFERRY_LOG_LEVEL");
    let config = Config::load(Sources::new(environment)).unwrap();
    let problems = config.get::<Log>().unwrap_err().to_string();
    assert!(problems.contains("the value is not UTF-8"), "{problems}");
}

#[test]
fn the_scheduler_needs_neither_a_cloud_key_nor_the_catalog() {
    let given = Given::nothing().variable("REDIS_URL", "redis://redis");
    let scheduler = given.load().unwrap().scheduler().unwrap();
    assert_eq!(scheduler.scheduler.archive_interval.as_secs(), 300);
    let jobs: Vec<_> = scheduler.scheduler.cron.into_keys().collect();
    assert_eq!(jobs, [PeriodicJob::BaseBackup, PeriodicJob::Retention]);
}

#[test]
fn push_goes_on_when_another_programs_part_of_the_file_is_mistyped() {
    let given = Given::nothing()
        .file("[archive]\nlevl = 6\n[worker]\nslots = \"many\"")
        .variable("WALFERRY_ARCHIV_LEVEL", "6");
    let config = given.load().unwrap();
    config.push().unwrap();
    assert_eq!(config.unknown().len(), 2);
    assert!(given.get::<Archive>().is_err(), "everybody else refuses");

    let own = Given::nothing()
        .file("[spool]\nlimit = \"a lot\"")
        .load()
        .unwrap();
    assert!(own.push().is_err(), "its own part has to be right");
}

#[test]
fn a_named_file_must_be_there_and_the_default_one_need_not() {
    let given = Given::nothing();
    let missing = given.directory.path().join("missing.toml");
    let error = Config::load(Sources::new(Environment::default()).file(Some(missing.clone())));
    assert!(error.unwrap_err().to_string().contains("cannot be read"));

    let mut sources = Sources::new(Environment::default());
    sources.default_file = Some(missing);
    assert_eq!(Config::load(sources).unwrap().path(), None);

    let path = given.secret_file("default.toml", "[archive]\nlevel = 3");
    let mut sources = Sources::new(Environment::default());
    sources.default_file = Some(path.clone());
    let config = Config::load(sources).unwrap();
    assert_eq!(config.path(), Some(path.as_path()));
    assert_eq!(config.get::<Archive>().unwrap().level, 3);
}

#[test]
fn push_goes_on_without_a_default_file_that_cannot_be_read_and_not_without_a_named_one() {
    let given = Given::nothing();
    // A folder cannot be read, whoever tries.
    let unreadable = given.directory.path().to_owned();
    let mut sources = Sources::new(Environment::default());
    sources.default_file = Some(unreadable.clone());
    assert!(
        Config::load(sources.clone()).is_err(),
        "everybody else ends"
    );
    let (config, left_out) = Config::load_tolerant(sources.clone()).unwrap();
    assert_eq!(config.path(), None);
    assert!(left_out.unwrap().to_string().contains("cannot be read"));
    config.push().unwrap();
    assert!(Config::load_tolerant(sources.file(Some(unreadable))).is_err());
}

#[test]
fn the_file_can_be_named_by_a_variable_and_a_flag_wins_over_it() {
    let given = Given::nothing();
    let by_variable = given.secret_file("variable.toml", "[archive]\nlevel = 3");
    let by_flag = given.secret_file("flag.toml", "[archive]\nlevel = 4");
    let given = given.variable("WALFERRY_CONFIG", by_variable.to_str().unwrap());
    assert_eq!(given.get::<Archive>().unwrap().level, 3);
    let sources = Sources::new(given.environment.clone()).file(Some(by_flag));
    assert_eq!(
        Config::load(sources)
            .unwrap()
            .get::<Archive>()
            .unwrap()
            .level,
        4
    );
}

#[test]
fn a_flag_of_its_own_is_named_when_its_value_is_wrong() {
    let sources = Sources::new(Environment::default()).flag("worker.slots", "--slots", Some(0));
    let problems = Config::load(sources)
        .unwrap()
        .get::<Worker>()
        .unwrap_err()
        .to_string();
    assert!(
        problems.contains("`worker.slots` (flag --slots)"),
        "{problems}"
    );
}
