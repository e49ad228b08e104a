//! The hot calls, one after another, each with what the server logged of it.

use std::time::Duration;

use walferry_catalog::{
    Completed, CopyFailure, Enough, ReleaseAs, ScanReport, claims, clusters, completion, intake,
    status, suspects,
};

use crate::fill::clouds;
use crate::log::Log;
use crate::worker::{Worker, new_file, packed, proof};

pub(crate) async fn archiving(worker: &mut Worker, log: &mut Log) {
    let (site, up) = (worker.site.clone(), clouds());
    let mut conn = worker.connect().await;
    log.begin();
    let files = [new_file()];
    intake::register(&mut conn, site.prefix, site.directory, &files, &up)
        .await
        .expect("a file is registered");
    log.end("register");
    drop(conn);
    let claimed = worker.claim(4).await;
    log.end("claim");
    assert_eq!(claimed.len(), 4, "there is a backlog");
    let (first, rest) = claimed.split_at(1);
    worker.archive(&first[0]).await;
    log.end("set_packed, still_held, complete, local_deleted");
    let mut conn = worker.connect().await;
    let tokens: Vec<_> = rest.iter().map(|claim| claim.token).collect();
    let held = claims::renew(&mut conn, &tokens, Duration::from_secs(60)).await;
    assert_eq!(held.expect("leases are renewed").len(), 3, "all are held");
    log.end("renew");
    claims::release(&mut conn, tokens[0], ReleaseAs::Drained)
        .await
        .expect("a claim is given back");
    log.end("release");
    completion::set_packed(&mut conn, tokens[1], &packed(&rest[1]))
        .await
        .expect("the content is recorded");
    let failure = CopyFailure {
        repository: up[1].clone(),
        error: "503".into(),
        cause: "server-error".into(),
        retry_after: Duration::from_secs(30),
    };
    let proofs = vec![proof(&site, &rest[1], &up[0])];
    log.begin();
    let waiting = completion::complete(
        &mut conn,
        tokens[1],
        proofs,
        vec![failure],
        Enough::AllRequired,
    )
    .await;
    assert!(
        matches!(waiting, Ok(Completed::Waiting(_))),
        "one copy is missing"
    );
    log.end("complete, one cloud failed");
    claims::release(&mut conn, tokens[2], ReleaseAs::Drained)
        .await
        .expect("a claim is given back");
}

/// A cloud came back: its copies are due, and are claimed beside new files.
pub(crate) async fn healing(worker: &mut Worker, log: &mut Log) {
    let cloud = clouds().remove(1);
    let mut conn = worker.connect().await;
    log.begin();
    claims::make_one_due_now(&mut conn, &cloud)
        .await
        .expect("a copy is made due");
    log.end("make_one_due_now");
    claims::make_due_now(&mut conn, &cloud)
        .await
        .expect("copies are made due");
    log.end("make_due_now");
    drop(conn);
    let claimed = worker.claim(4).await;
    log.end("claim, a copy is missing");
    assert!(
        claimed.iter().any(|claim| claim.sha256.is_some()),
        "the missing copy is claimed"
    );
    for claim in claimed {
        worker.archive(&claim).await;
    }
}

/// What a job with nothing to do asks, as `worker` and `shared/archive` do.
pub(crate) async fn ticking(worker: &mut Worker, log: &mut Log) {
    let site = worker.site.clone();
    log.begin();
    assert!(worker.claim(16).await.is_empty(), "nothing waits there");
    log.end("claim, nothing to do");
    let mut conn = worker.connect().await;
    log.begin();
    intake::missing(&mut conn, site.directory, &[])
        .await
        .expect("the catalog answers");
    log.end("unknown, missing");
    suspects::keep_only(&mut conn, site.directory, &[])
        .await
        .expect("the catalog answers");
    log.end("keep_only");
    let scan = ScanReport {
        scanned_by: "bench".into(),
        files: 0,
        bytes: 0,
        fs_total: 1 << 40,
        fs_available: 1 << 39,
        newest_arrival: None,
    };
    intake::touch_scan(&mut conn, site.directory, &scan)
        .await
        .expect("the catalog answers");
    log.end("touch_scan");
    clusters::clusters(&mut conn)
        .await
        .expect("the catalog answers");
    log.end("clusters");
    claims::backlog(&mut conn, Some(site.cluster))
        .await
        .expect("the catalog answers");
    log.end("backlog");
    let up = clouds();
    let request = claims::ClaimRequest {
        worker: &worker.name,
        lease: Duration::from_secs(60),
        limit: 0,
        cluster: Some(site.cluster),
        directories: &[site.directory],
        repositories_up: &up,
        enough: Enough::AllRequired,
        longest_delay: Duration::from_secs(300),
    };
    let wakeup = claims::next_wakeup(&mut conn, &request)
        .await
        .expect("the catalog answers");
    log.end("next_wakeup");
    assert_eq!(wakeup, None, "nothing waits there");
}

/// What every worker reads every 10 s for its metrics.
pub(crate) async fn watching(worker: &mut Worker, log: &mut Log) {
    let site = worker.site.clone();
    let mut conn = worker.connect().await;
    log.begin();
    status::repositories(&mut conn, Some(site.cluster))
        .await
        .expect("the catalog answers");
    log.end("repositories");
    suspects::count(&mut conn, site.cluster)
        .await
        .expect("the catalog answers");
    log.end("suspects");
    clusters::directories(&mut conn, Some(site.cluster))
        .await
        .expect("the catalog answers");
    log.end("directories");
}
