//! What a cloud says, told in the operator's terms.

use std::time::Duration;

use bytes::Bytes;
use walferry_store::{Metadata, Retry, StoreError};

use crate::fake::{Fake, Reply, answer, error, head_only};
use crate::{cause, failed, key, prefix, put, put_parts, random};

/// What becomes of a GET answered in this way.
async fn check(reply: Vec<u8>, expected: &str, retry: Retry) -> StoreError {
    let fake = Fake::answering(move |_| Reply::Answer(reply.clone())).await;
    let error = failed(fake.repository().get(&key("wal/1.gz")).await);
    assert_eq!(error.cause(), expected, "{}", error.report());
    assert_eq!(error.retry(), retry, "{}", error.report());
    assert!(error.to_string().contains("`wal/1.gz` in `r2`"), "{error}");
    assert_eq!(fake.requests().len(), 1, "nothing retries on its own");
    error
}

#[tokio::test]
async fn a_server_error_is_the_servers_and_shows_its_message() {
    let reply = error("500 Oops", &[], "InternalError", "We made a mistake");
    let error = check(reply, "server-error", Retry::Later).await;
    assert!(
        error
            .to_string()
            .contains("HTTP 500 InternalError: `We made a mistake`")
    );
    let page = answer("503 Unavailable", &[], "<html>down for maintenance</html>");
    let error = check(page, "server-error", Retry::Later).await;
    assert!(
        error.to_string().contains("down for maintenance"),
        "{error}"
    );
    assert!(error.blames_repository());
}

#[tokio::test]
async fn a_request_to_slow_down_says_when_to_come_back() {
    let later = Some(Duration::from_secs(7));
    let reply = error("429 Slow", &[("retry-after", "7")], "TooManyRequests", "");
    let slow = check(reply, "throttled", Retry::Later).await;
    assert_eq!(slow.retry_after(), later);
    assert!(!slow.blames_repository(), "429 can be about one key");
    let dates = [
        ("date", "Tue, 01 Jul 2025 10:00:00 GMT"),
        ("retry-after", "Tue, 01 Jul 2025 10:00:07 GMT"),
    ];
    let slow = check(answer("503 Busy", &dates, ""), "throttled", Retry::Later).await;
    assert_eq!(slow.retry_after(), later);
    assert!(slow.blames_repository(), "503 is the whole service");
    let reply = error("503 Busy", &[], "SlowDown", "Reduce your request rate");
    let slow = check(reply, "throttled", Retry::Later).await;
    assert_eq!(slow.retry_after(), None);
}

#[tokio::test]
async fn a_cap_is_told_in_b2s_words() {
    let message = "Cannot upload files, storage cap exceeded.";
    let reply = error("403 Forbidden", &[], "AccessDenied", message);
    let denied = check(reply, "denied", Retry::Operator).await;
    assert!(denied.to_string().contains(message), "{denied}");
    assert!(denied.report().contains("daily cap"), "{}", denied.report());
}

#[tokio::test]
async fn a_wrong_region_is_named_as_such() {
    let moved = error(
        "301 Moved",
        &[],
        "PermanentRedirect",
        "use another endpoint",
    );
    check(moved, "wrong-region", Retry::Operator).await;
    let elsewhere = [("location", "http://127.0.0.1:1/")];
    let followed = answer("307 Elsewhere", &elsewhere, "");
    check(followed, "wrong-region", Retry::Operator).await;
    let message = "the region 'auto' is wrong; expecting 'us-east-005'";
    let malformed = error("400 Bad", &[], "AuthorizationHeaderMalformed", message);
    let wrong = check(malformed, "wrong-region", Retry::Operator).await;
    assert!(wrong.to_string().contains("us-east-005"), "{wrong}");
}

#[tokio::test]
async fn a_clock_that_is_off_is_named_and_the_time_can_still_be_asked() {
    let date = ("date", "Tue, 01 Jul 2025 10:00:00 GMT");
    let reply = error(
        "403 Forbidden",
        &[date],
        "RequestTimeTooSkewed",
        "15 minutes",
    );
    let clock = check(reply.clone(), "clock", Retry::Operator).await;
    let StoreError::Clock { server, .. } = clock else {
        panic!("{clock:?}");
    };
    assert_eq!(
        server.map(|time| time.to_rfc3339()).as_deref(),
        Some("2025-07-01T10:00:00+00:00")
    );
    let fake = Fake::answering(move |_| Reply::Answer(head_only(reply.clone()))).await;
    let time = fake.repository().clock().await.expect("the time");
    assert_eq!(time.to_rfc3339(), "2025-07-01T10:00:00+00:00");
    let fake = Fake::answering(|_| Reply::Answer(head_only(answer("200 OK", &[], "")))).await;
    assert_eq!(cause(fake.repository().clock().await), "protocol");
}

/// A misspelt endpoint, a proxy or a maintenance page answers 404 as well; taken for "no
/// such object", restore would end a recovery early.
#[tokio::test]
async fn a_404_that_is_not_s3s_is_no_absent_key() {
    let page = answer("404 Not Found", &[], "<html>no such page</html>");
    check(page, "protocol", Retry::Later).await;
    let bucket = error("404 Not Found", &[], "NoSuchBucket", "gone");
    check(bucket, "no-bucket", Retry::Operator).await;
    let page = || answer("404 Not Found", &[], "<html>no such page</html>");
    let fake = Fake::answering(move |request| {
        let head = request.method == "HEAD";
        Reply::Answer(if head { head_only(page()) } else { page() })
    })
    .await;
    assert_eq!(
        cause(fake.repository().head(&key("wal/1.gz")).await),
        "protocol"
    );
}

/// The answer to a HEAD has no body, so its reasons have to be asked for.
#[tokio::test]
async fn a_refused_head_is_explained_by_a_get() {
    let fake = Fake::answering(|request| {
        let reply = error("403 Forbidden", &[], "InvalidAccessKeyId", "no such key");
        let head = request.method == "HEAD";
        Reply::Answer(if head { head_only(reply) } else { reply })
    })
    .await;
    let denied = failed(fake.repository().head(&key("wal/1.gz")).await);
    assert!(
        denied.to_string().contains("InvalidAccessKeyId"),
        "{denied}"
    );
    let lines: Vec<_> = fake
        .requests()
        .iter()
        .map(|request| request.line())
        .collect();
    assert_eq!(lines, ["HEAD /bucket/wal/1.gz", "GET /bucket/wal/1.gz"]);
}

#[tokio::test]
async fn an_answer_that_is_no_s3_is_an_error() {
    let page = || answer("200 OK", &[], "<html>hello</html>");
    let fake = Fake::answering(move |_| Reply::Answer(page())).await;
    let r2 = fake.repository();
    assert_eq!(cause(r2.list(&prefix("wal/"), None, 10).await), "protocol");
    assert_eq!(cause(r2.probe().await), "protocol");
    assert_eq!(cause(r2.delete(&key("wal/1.gz")).await), "protocol");
    let pieces = vec![Ok(random(10))];
    assert_eq!(
        cause(put_parts(&*r2, &key("wal/1.gz"), pieces).await),
        "protocol"
    );
    // No ETag: whatever took the bytes, it is no S3.
    assert_eq!(
        cause(put(&*r2, &key("wal/1.gz"), &Bytes::new()).await),
        "protocol"
    );
}

#[tokio::test]
async fn a_listed_key_that_climbs_or_writes_to_a_terminal_is_skipped_and_the_rest_is_listed() {
    let page = || {
        let entry = |key: &str| {
            format!(
                "<Contents><Key>{key}</Key><Size>1</Size>\
                 <LastModified>2025-11-03T12:00:00Z</LastModified></Contents>"
            )
        };
        let keys = [
            "wal/../../etc/passwd",
            "../x",
            "/etc/passwd",
            "wal/&#27;[2J",
            "wal/x.gz",
        ];
        let entries: String = keys.iter().map(|key| entry(key)).collect();
        let text = format!(
            "<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        );
        answer("200 OK", &[], &text)
    };
    let fake = Fake::answering(move |_| Reply::Answer(page())).await;
    let listed = fake.repository().list(&prefix("wal/"), None, 10).await;
    let listed = listed.expect("a page");
    let keys: Vec<&str> = listed.objects.iter().map(|it| it.key.as_str()).collect();
    assert_eq!((keys, listed.skipped), (vec!["wal/x.gz"], 4));
}

/// S3 answers a completion with 200 before it is done, and may fail afterwards.
#[tokio::test]
async fn an_error_inside_a_200_is_an_error() {
    let fake = Fake::answering(|request| {
        let complete = request.method == "POST" && request.target.contains("uploadId=");
        Reply::Answer(match (request.method.as_str(), complete) {
            ("POST", false) => answer(
                "200 OK",
                &[],
                "<InitiateMultipartUploadResult><UploadId>7</UploadId></InitiateMultipartUploadResult>",
            ),
            ("POST", true) => error("200 OK", &[], "InternalError", "not put together"),
            ("PUT", _) => answer("200 OK", &[("etag", "\"1\"")], ""),
            _ => answer("204 No Content", &[], ""),
        })
    })
    .await;
    let pieces = vec![Ok(random(10))];
    let error = failed(put_parts(&*fake.repository(), &key("wal/1.gz"), pieces).await);
    assert_eq!(error.cause(), "server-error", "{}", error.report());
    assert!(error.to_string().contains("not put together"), "{error}");
    let last = fake.requests().last().expect("requests").line();
    assert_eq!(last, "DELETE /bucket/wal/1.gz?uploadId=7", "not aborted");
}

#[tokio::test]
async fn content_md5_is_sent_and_signed() {
    let fake = Fake::answering(|_| Reply::Answer(answer("200 OK", &[("etag", "\"1\"")], ""))).await;
    let body = Bytes::from_static(b"abc");
    put(&*fake.repository(), &key("wal/1.gz"), &body)
        .await
        .expect("stored");
    let request = &fake.requests()[0];
    assert_eq!(
        request.header("content-md5"),
        Some("kAFQmDzST7DWlj99KOF/cg==")
    );
    assert_eq!(request.header("content-length"), Some("3"));
    let signature = request.header("authorization").expect("a signature");
    assert!(
        signature.contains("SignedHeaders=content-md5;host;x-amz-content-sha256;x-amz-date,"),
        "{signature}"
    );
    let hash = request.header("x-amz-content-sha256").expect("a hash");
    assert_eq!(
        hash,
        walferry_proof::sha256(&body).to_string(),
        "the body is signed"
    );
}

#[tokio::test]
async fn a_new_object_asks_for_a_free_key_only_where_the_store_can() {
    for conditional_put in [true, false] {
        let fake = Fake::answering(|request| {
            Reply::Answer(match request.method.as_str() {
                "PUT" => answer("200 OK", &[("etag", "\"1\"")], ""),
                _ => error("404 Not Found", &[], "NoSuchKey", ""),
            })
        })
        .await;
        let mut settings = fake.settings();
        settings.conditional_put = conditional_put;
        let r2 = crate::servers::open(&settings);
        let result = r2
            .put_new(
                &key("a"),
                Bytes::new(),
                &Metadata::new(),
                &walferry_proof::md5(b""),
            )
            .await;
        let put = fake.requests();
        let put = put
            .iter()
            .find(|request| request.method == "PUT")
            .expect("a PUT");
        assert_eq!(put.header("if-none-match"), conditional_put.then_some("*"));
        // This server forgets at once what it was given; only who looks again notices.
        assert_eq!(result.is_ok(), conditional_put);
    }
}

/// R2 has no versions; SeaweedFS shows the other branch.
#[tokio::test]
async fn without_versions_a_delete_is_a_plain_one() {
    let fake = Fake::answering(|request| {
        Reply::Answer(match request.method.as_str() {
            "GET" => error("501 Not Implemented", &[], "NotImplemented", ""),
            "HEAD" => head_only(answer("200 OK", &[], "12345")),
            _ => answer("204 No Content", &[], ""),
        })
    })
    .await;
    let deleted = fake.repository().delete(&key("wal/1.gz")).await;
    assert_eq!(deleted.expect("deleted").versions, 1);
    let lines: Vec<_> = fake
        .requests()
        .iter()
        .map(|request| request.line())
        .collect();
    assert_eq!(
        lines[1..],
        ["HEAD /bucket/wal/1.gz", "DELETE /bucket/wal/1.gz"]
    );
}

/// Pages, neighbours in the listing, and the order: the current version goes last.
#[tokio::test]
async fn versions_are_deleted_page_by_page_and_the_current_one_last() {
    let fake = Fake::answering(|request| {
        let page = |more: bool, entries: &str| {
            answer("200 OK", &[], &format!(
                "<ListVersionsResult><IsTruncated>{more}</IsTruncated>\
                 <NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>v2</NextVersionIdMarker>\
                 {entries}</ListVersionsResult>"
            ))
        };
        let entry = |tag: &str, key: &str, id: &str, latest: bool| {
            format!("<{tag}><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest></{tag}>")
        };
        let first = entry("Version", "k", "v4", false)
            + &entry("DeleteMarker", "k", "m5", true)
            + &entry("Version", "k", "v2", false);
        let second = entry("Version", "k", "v1", false) + &entry("Version", "k.bak", "w", true);
        Reply::Answer(match request.method.as_str() {
            "GET" if request.target.contains("key-marker=k&version-id-marker=v2") => {
                page(true, &second)
            }
            "GET" => page(true, &first),
            _ => answer("204 No Content", &[], ""),
        })
    })
    .await;
    let deleted = fake.repository().delete(&key("k")).await.expect("deleted");
    assert_eq!(deleted.versions, 4);
    let requests = fake.requests();
    let order: Vec<_> = requests
        .iter()
        .filter(|request| request.method == "DELETE")
        .map(|request| request.target.as_str())
        .collect();
    assert_eq!(order.len(), 4);
    assert_eq!(order[3], "/bucket/k?versionId=m5");
    assert!(
        order
            .iter()
            .all(|target| target.starts_with("/bucket/k?versionId=")),
        "{order:?}"
    );
}
