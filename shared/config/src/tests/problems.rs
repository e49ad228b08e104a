use super::Given;
use crate::Sources;

#[test]
fn all_problems_are_told_at_once_each_with_its_place_and_a_way_out() {
    let given = Given::nothing()
        .file(
            r#"
[archive]
level = 12
verify = "never"
claim_renew = "9s"
memory_limit = "1GiB"

[scheduler]
archive_interval = 300

[scheduler.cron]
retention = "0 3 * * 1"

[worker]
slots = [1, 2]
directories = ["main/old"]

[spool]
file_mode = "0777"

[log]
levle = "info"

[unheard.of]
name = 1
when = 2026-01-01

[empty.and.unknown]
"#,
        )
        .variable(
            "CLOUDFLARE_R2_ENDPOINT_URL",
            "account.r2.cloudflarestorage.com",
        )
        .variable("CLOUDFLARE_R2_BUCKET", "s3://wal")
        .variable("WALFERRY_RETENTION_DAYS", "0")
        .variable("WALFERRY_RETENTION_DAY", "30")
        .variable("REDIS_URL", "http://redis:6379")
        .set("thresholds.rpo=15")
        .set("no.such.setting=1");
    insta::assert_snapshot!(given.problems());
}

#[test]
fn settings_that_contradict_each_other_are_told() {
    let given = Given::old_system().file(
        r#"
[archive]
claim_lease = "5s"
claim_renew = "2s"
memory_limit = "32MiB"
retry_base = "1m"

[queue]
lease = "5s"
renew = "2s"
"#,
    );
    insta::assert_snapshot!(given.problems());
}

#[test]
fn every_syntax_error_is_told_and_no_line_is_repeated() {
    let given = Given::nothing().file(
        "[repositories.r2]\nsecret_access_key = planted-secret\nbucket = \"unclosed planted-secret\nx = [1,,]\n",
    );
    let problems = given.problems();
    assert!(!problems.contains("planted"), "{problems}");
    insta::assert_snapshot!(problems);
}

#[test]
fn a_variable_of_a_name_space_that_others_use_is_no_problem() {
    Given::old_system()
        .variable("WALFERRY_WORKER_PORT_9847_TCP_ADDR", "10.0.0.1")
        .variable("WALFERRY_WORKER_SERVICE_HOST", "10.0.0.1")
        .variable("WALFERRY_TEST_POSTGRES", "/usr")
        .load()
        .unwrap()
        .check()
        .unwrap();
}

#[test]
fn an_argument_without_a_value_is_told_and_not_repeated() {
    let arguments = ["planted-secret".to_owned(), "archive.level=1".to_owned()];
    let problems = Sources::new(crate::Environment::default())
        .set(&arguments)
        .unwrap_err();
    assert!(!problems.to_string().contains("planted"), "{problems}");
    assert!(
        problems.to_string().contains("--set NAME=VALUE"),
        "{problems}"
    );
}
