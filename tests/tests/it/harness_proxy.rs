//! Each fault of the proxy is one: seen with a client of the tests' own, with
//! the bucket behind as the witness.

use std::time::{Duration, Instant};

use walferry_tests::{Bucket, Cloud, Fault, Kind, Rule, World, eventually, wait};

/// Both servers, where the fault's effect is looked for in the bucket.
fn both() -> World {
    World::builder()
        .clouds(Kind::SeaweedFs, Kind::S3s)
        .no_redis()
        .no_catalog()
        .build()
}

fn quick() -> World {
    World::builder()
        .quick_clouds()
        .no_redis()
        .no_catalog()
        .build()
}

/// The bucket as walferry sees it: through the proxy.
fn through(cloud: &Cloud) -> Bucket {
    cloud
        .bucket()
        .seen_by(cloud.proxy().address(), cloud.credentials().clone())
}

fn put(bucket: &Bucket, key: &str) -> Result<u16, String> {
    bucket
        .request("PUT", key, "", &[7; 100_000])
        .map(|answer| answer.status)
}

#[test]
fn writes_are_counted_when_the_cloud_said_yes_and_only_then() {
    let world = both();
    for cloud in world.clouds() {
        let (bucket, proxy) = (through(cloud), cloud.proxy());
        assert_eq!(put(&bucket, "wal/a.gz"), Ok(200));
        assert_eq!(put(&bucket, "wal/a.gz"), Ok(200));
        proxy.fault(Fault::Status(503));
        assert_eq!(put(&bucket, "wal/b.gz"), Ok(503));
        assert_eq!(put(&bucket, "wal/a.gz"), Ok(503));
        proxy.pass();
        assert!(bucket.get("wal/b.gz").is_none());
        assert_eq!(proxy.writes(), [("wal/a.gz".to_owned(), 2)].into());
        assert_eq!(proxy.count("PUT", "wal/b"), 1);
    }
}

#[test]
fn a_refusing_cloud_refuses_connections_and_comes_back_on_the_same_port() {
    let world = quick();
    let cloud = world.cloud("b2");
    let bucket = through(cloud);
    cloud.proxy().fault(Fault::Refuse);
    let error = put(&bucket, "wal/a.gz").expect_err("refused");
    assert!(error.contains("ConnectionRefused"), "{error}");
    cloud.proxy().pass();
    assert_eq!(put(&bucket, "wal/a.gz"), Ok(200));
}

#[test]
fn a_blackhole_answers_nothing_until_it_ends() {
    let world = quick();
    let cloud = world.cloud("b2");
    cloud.proxy().fault(Fault::Blackhole);
    std::thread::scope(|scope| {
        let request = scope.spawn(|| put(&through(cloud), "wal/a.gz"));
        eventually("the request is in the hole", || {
            let count = cloud.proxy().count("PUT", "wal/a.gz");
            wait::is(count == 1, count)
        });
        wait::throughout(Duration::from_millis(300), "no answer comes", || {
            wait::is(!request.is_finished(), "it came")
        });
        cloud.proxy().pass();
        request.join().expect("no panic").expect_err("cut");
    });
    assert!(cloud.bucket().get("wal/a.gz").is_none());
}

#[test]
fn a_rule_strikes_only_the_requests_that_it_names() {
    let world = quick();
    let cloud = world.cloud("b2");
    let bucket = through(cloud);
    cloud.proxy().fault(
        Rule::new(Fault::Status(429))
            .on("PUT")
            .for_keys_with("/b")
            .times(1),
    );
    assert_eq!(put(&bucket, "wal/a.gz"), Ok(200));
    assert_eq!(put(&bucket, "wal/b.gz"), Ok(429));
    assert_eq!(put(&bucket, "wal/b.gz"), Ok(200));
    assert!(bucket.get("wal/b.gz").is_some());
}

#[test]
fn latency_and_bandwidth_take_their_time() {
    let world = quick();
    let cloud = world.cloud("b2");
    let bucket = through(cloud);
    for fault in [
        Fault::Latency(Duration::from_millis(300)),
        Fault::Bandwidth(300_000),
    ] {
        cloud.proxy().fault(fault);
        let start = Instant::now();
        assert_eq!(put(&bucket, "wal/a.gz"), Ok(200));
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(290),
            "{fault:?} took {took:?}"
        );
    }
}

#[test]
fn a_reset_in_the_middle_of_a_body_stores_nothing() {
    let world = both();
    for cloud in world.clouds() {
        cloud.proxy().fault(Fault::ResetMidBody);
        put(&through(cloud), "wal/a.gz").expect_err("cut");
        cloud.proxy().pass();
        assert!(cloud.bucket().get("wal/a.gz").is_none(), "{}", cloud.name());
    }
}

#[test]
fn a_dropped_response_hides_an_object_that_was_stored() {
    let world = both();
    for cloud in world.clouds() {
        cloud.proxy().fault(Fault::DropResponse);
        put(&through(cloud), "wal/a.gz").expect_err("the answer is lost");
        assert!(cloud.bucket().get("wal/a.gz").is_some(), "{}", cloud.name());
        assert_eq!(cloud.proxy().writes().get("wal/a.gz"), Some(&1));
    }
}

#[test]
fn a_flipped_byte_is_stored_and_every_answer_carries_the_right_etag() {
    let world = both();
    for cloud in world.clouds() {
        let (bucket, body) = (through(cloud), b"the body that was sent");
        cloud.proxy().fault(Fault::FlipStored);
        let answer = bucket
            .request("PUT", "wal/a.gz", "", body)
            .expect("an answer");
        assert_eq!(answer.status, 200, "{}: {}", cloud.name(), answer.text());
        cloud.proxy().pass();

        let honest = bucket
            .request("PUT", "wal/honest.gz", "", body)
            .expect("an answer");
        let etag = honest.header("etag");
        assert!(etag.is_some());
        assert_eq!(answer.header("etag"), etag);
        assert_eq!(
            bucket.head("wal/a.gz").and_then(|head| head.header("etag")),
            etag
        );
        assert_ne!(
            cloud
                .bucket()
                .head("wal/a.gz")
                .and_then(|head| head.header("etag")),
            etag
        );

        let stored = bucket.get("wal/a.gz").expect("stored").body;
        assert_eq!(stored.len(), body.len());
        assert_eq!(stored.iter().zip(body).filter(|(a, b)| a != b).count(), 1);
    }
}

#[test]
fn a_flapping_cloud_works_and_fails_in_turn() {
    let world = quick();
    let cloud = world.cloud("b2");
    let phase = Duration::from_millis(200);
    cloud.proxy().fault(Fault::Flapping {
        up: phase,
        down: phase,
    });
    for works in [true, false, true, false] {
        eventually("the next phase comes", || {
            let answer = put(&through(cloud), "wal/a.gz");
            wait::is(answer.is_ok() == works, answer)
        });
    }
}

#[test]
fn a_gate_holds_requests_until_it_is_opened() {
    let world = quick();
    let cloud = world.cloud("b2");
    let gate = cloud.proxy().hold("PUT", "wal/");
    std::thread::scope(|scope| {
        let request = scope.spawn(|| put(&through(cloud), "wal/a.gz"));
        gate.await_waiting(1);
        assert!(cloud.bucket().get("wal/a.gz").is_none());
        assert_eq!(put(&through(cloud), "other/a.gz"), Ok(200));
        gate.open();
        assert_eq!(request.join().expect("no panic"), Ok(200));
    });
    assert_eq!(gate.waiting(), 0);
}

#[test]
fn a_status_is_told_with_the_code_and_the_wait_that_were_asked_for() {
    let world = quick();
    let cloud = world.cloud("b2");
    cloud.proxy().fault(Fault::Says {
        status: 503,
        code: "ServiceUnavailable",
        retry_after: Some(7),
    });
    let answer = through(cloud)
        .request("PUT", "wal/a.gz", "", b"")
        .expect("an answer");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after").as_deref(), Some("7"));
    assert!(answer.text().contains("<Code>ServiceUnavailable</Code>"));
    assert!(cloud.bucket().get("wal/a.gz").is_none());
}

#[test]
fn a_bucket_that_is_gone_and_a_key_that_is_revoked_are_refused_by_the_cloud_itself() {
    let world = both();
    for cloud in world.clouds() {
        for (fault, status, code) in [
            (Fault::BucketGone, 404, "NoSuchBucket"),
            (Fault::KeyRevoked, 403, ""),
        ] {
            cloud.proxy().fault(fault);
            for (method, key, query) in [("PUT", "wal/a.gz", ""), ("GET", "", "list-type=2")] {
                let answer = through(cloud)
                    .request(method, key, query, b"")
                    .expect("an answer");
                let told = format!("{} {fault:?}: {}", cloud.name(), answer.text());
                assert_eq!(answer.status, status, "{told}");
                assert!(answer.text().contains(code), "{told}");
            }
        }
        cloud.proxy().pass();
        assert_eq!(put(&through(cloud), "wal/a.gz"), Ok(200));
    }
}

#[test]
fn a_wrong_etag_is_anothers_and_the_object_is_as_it_was_sent() {
    let world = quick();
    let cloud = world.cloud("b2");
    let bucket = through(cloud);
    bucket.put("wal/a.gz", b"body");
    let right = bucket.head("wal/a.gz").and_then(|head| head.header("etag"));
    cloud.proxy().fault(Fault::WrongEtag);
    let wrong = bucket.head("wal/a.gz").and_then(|head| head.header("etag"));
    assert!(right.is_some() && wrong.is_some() && right != wrong);
    let stored = bucket.get("wal/a.gz").expect("stored").body;
    assert_eq!(&stored[..], b"body");
}

#[test]
fn a_truncated_answer_ends_in_the_middle_of_its_headers() {
    let world = quick();
    let cloud = world.cloud("b2");
    let bucket = through(cloud);
    bucket.put("wal/a.gz", b"body");
    let head = Rule::new(Fault::TruncatedAnswer).on("HEAD").times(1);
    cloud.proxy().fault(head);
    let error = bucket
        .request("HEAD", "wal/a.gz", "", b"")
        .expect_err("it is cut");
    assert!(error.contains("IncompleteMessage"), "{error}");
    assert!(bucket.head("wal/a.gz").is_some(), "the next one is whole");
}

#[test]
fn a_request_that_is_late_arrives_when_the_latency_ends() {
    let world = quick();
    let cloud = world.cloud("b2");
    cloud
        .proxy()
        .fault(Fault::Latency(Duration::from_secs(3600)));
    std::thread::scope(|scope| {
        let request = scope.spawn(|| put(&through(cloud), "wal/a.gz"));
        eventually("the request is on its way", || {
            let count = cloud.proxy().count("PUT", "wal/a.gz");
            wait::is(count == 1, count)
        });
        cloud.proxy().pass();
        assert_eq!(request.join().expect("no panic"), Ok(200));
    });
}
