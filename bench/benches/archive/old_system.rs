//! The old system's steps, in the language that it was written in.

use std::process::Command;

use walferry_bench::corpus::Corpus;
use walferry_tests::environment::repository;

use crate::field::{Field, Outcome, run_program};
use walferry_bench::check;

const PREFIX: &str = "old-system/";

pub(crate) fn run(field: &mut Field, corpus: &Corpus) -> Outcome {
    let folder = field.world.folder().join("old-system");
    let directory = folder.join("directory");
    std::fs::create_dir_all(&directory).expect("make a directory");
    for segment in corpus.segments() {
        segment.place(&directory);
    }
    field.world.catalog().execute("CREATE DATABASE old_system");
    let clouds: Vec<serde_json::Value> = field
        .clouds()
        .into_iter()
        .map(|(cloud, at)| {
            let keys = cloud.credentials();
            serde_json::json!({
                "endpoint": format!("https://{at}"),
                "bucket": cloud.bucket().name(),
                "id": keys.id,
                "secret": keys.secret,
                "region": keys.region,
            })
        })
        .collect();
    let settings = serde_json::json!({
        "directory": directory,
        "prefix": PREFIX,
        "clouds": clouds,
        "catalog": field.world.catalog().url("old_system"),
        "ca": field.fronts.ca(),
    });
    let file = folder.join("settings.json");
    std::fs::write(&file, settings.to_string()).expect("write the settings");
    let mut command = Command::new(repository().join("target/tools/bench/bin/python"));
    command
        .arg(repository().join("bench/benches/archive/old_system.py"))
        .arg(&file);
    let logs = field.world.folder().join("logs");
    let mut remark = String::new();
    let mut outcome = field.measure("the old system's steps in Python, gzip 9", |_| {
        let (own, said) = run_program("old-system", &logs, &mut command);
        remark = said.trim().into();
        own
    });
    let rows = field
        .world
        .catalog()
        .query_in("old_system", "SELECT count(*) FROM wal_backups");
    let wanted = corpus.segments().len().to_string();
    assert_eq!(rows[0][0].as_deref(), Some(wanted.as_str()), "rows");
    outcome.stored = check::check(
        corpus,
        field.world.clouds(),
        check::gz_below(PREFIX),
        check::gz,
    );
    outcome.remark = remark;
    outcome
}
