use super::Given;
use crate::{Problems, Repositories};

const MINIO: &str = "
[repositories.minio]
endpoint = 'https://minio.example.com:9000'
bucket = 'wal'
access_key_id = 'key'
secret_access_key = 'secret'
";

fn names(given: &Given) -> Vec<String> {
    let repositories = given.get::<Repositories>().unwrap();
    repositories
        .iter()
        .map(|repository| repository.name.to_string())
        .collect()
}

#[test]
fn one_repository_of_any_kind_is_enough() {
    let given = Given::nothing().file(MINIO);
    let repositories = given.get::<Repositories>().unwrap();
    let minio = &repositories.iter().next().unwrap().s3;
    assert_eq!(names(&given), ["minio"]);
    assert_eq!(
        (minio.region.as_str(), minio.conditional_put),
        ("us-east-1", false)
    );
}

#[test]
fn a_third_repository_joins_the_pair_of_the_old_variables() {
    assert_eq!(
        names(&Given::old_system().file(MINIO)),
        ["b2", "minio", "r2"]
    );
}

#[test]
fn a_list_of_names_chooses() {
    let given = Given::old_system()
        .file(MINIO)
        .variable("WALFERRY_REPOSITORIES", "r2, minio");
    assert_eq!(names(&given), ["r2", "minio"]);
}

#[test]
fn a_repository_can_come_from_the_environment_alone() {
    let given = Given::nothing()
        .variable("WALFERRY_REPOSITORIES", "my-cloud")
        .variable(
            "WALFERRY_REPOSITORIES_MY_CLOUD_ENDPOINT",
            "http://127.0.0.1:8333",
        )
        .variable("WALFERRY_REPOSITORIES_MY_CLOUD_BUCKET", "wal")
        .variable("WALFERRY_REPOSITORIES_MY_CLOUD_ACCESS_KEY_ID", "key")
        .variable("WALFERRY_REPOSITORIES_MY_CLOUD_SECRET_ACCESS_KEY", "secret");
    assert_eq!(names(&given), ["my-cloud"]);
}

#[test]
fn a_second_cloud_whose_variables_are_forgotten_is_a_problem_and_not_a_choice() {
    let mut given = Given::old_system();
    for name in ["ENDPOINT_URL", "KEY_ID", "APPLICATION_KEY", "BUCKET"] {
        given = given.without(&format!("BACKBLAZE_B2_{name}"));
    }
    insta::assert_snapshot!(given.problems());
}

fn with_endpoint(endpoint: &str) -> Result<Repositories, Problems> {
    Given::old_system()
        .variable("CLOUDFLARE_R2_ENDPOINT_URL", endpoint)
        .get()
}

#[test]
fn plain_http_is_refused_except_on_loopback() {
    for loopback in ["http://localhost:1", "http://127.0.0.9:1", "http://[::1]:1"] {
        with_endpoint(loopback).unwrap();
    }
    for remote in [
        "http://minio:9000",
        "http://10.0.0.1",
        "http://localhost.example.com",
    ] {
        let problems = with_endpoint(remote).unwrap_err().to_string();
        assert!(
            problems.contains("is plain HTTP to another machine"),
            "{remote}: {problems}"
        );
    }
}

#[test]
fn plain_http_is_accepted_where_it_is_allowed() {
    let repositories = Given::old_system()
        .variable("CLOUDFLARE_R2_ENDPOINT_URL", "http://minio:9000")
        .variable("WALFERRY_REPOSITORIES_R2_ALLOW_HTTP", "true")
        .get::<Repositories>()
        .unwrap();
    assert!(
        repositories
            .get(&"r2".parse().unwrap())
            .unwrap()
            .s3
            .allow_http
    );
}

#[test]
fn an_endpoint_is_a_host_and_nothing_else() {
    for wrong in [
        "account.r2.cloudflarestorage.com",
        "ftp://host",
        "https://host/?x=1",
        "https://account.r2.cloudflarestorage.com/bucket",
    ] {
        assert!(with_endpoint(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn two_names_for_one_bucket_are_refused_because_one_copy_would_count_twice() {
    let twice = "
[repositories.one]
endpoint = 'https://host'
bucket = 'wal'
access_key_id = 'a'
secret_access_key = 'b'
[repositories.two]
endpoint = 'https://host:443/'
bucket = 'wal'
access_key_id = 'c'
secret_access_key = 'd'
";
    let problems = Given::nothing()
        .file(twice)
        .get::<Repositories>()
        .unwrap_err()
        .to_string();
    assert!(
        problems.contains("a copy in it would count twice"),
        "{problems}"
    );
    let listed = Given::old_system().variable("WALFERRY_REPOSITORIES", "r2,r2");
    let problems = listed.get::<Repositories>().unwrap_err().to_string();
    assert!(problems.contains("`r2` is named twice"), "{problems}");
}

#[test]
fn at_least_one_repository_is_required() {
    let given = Given::old_system().variable("WALFERRY_REPOSITORIES_R2_REQUIRED", "false");
    assert_eq!(given.get::<Repositories>().unwrap().required().len(), 1);
    let given = given.variable("WALFERRY_REPOSITORIES_B2_REQUIRED", "false");
    let problems = given.get::<Repositories>().unwrap_err().to_string();
    assert!(problems.contains("no repository is required"), "{problems}");
    let none = Given::old_system().set("repositories=");
    assert!(none.get::<Repositories>().is_err());
}

#[test]
fn a_region_that_the_b2_endpoint_contradicts_is_told_before_b2_answers_403() {
    let given = Given::old_system().variable(
        "BACKBLAZE_B2_ENDPOINT_URL",
        "https://s3.eu-central-003.backblazeb2.com",
    );
    let problems = given.get::<Repositories>().unwrap_err().to_string();
    assert!(
        problems.contains("set BACKBLAZE_B2_REGION to eu-central-003"),
        "{problems}"
    );
    given
        .variable("BACKBLAZE_B2_REGION", "eu-central-003")
        .get::<Repositories>()
        .unwrap();
}
