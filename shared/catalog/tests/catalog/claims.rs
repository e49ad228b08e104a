use std::collections::HashSet;
use std::time::Duration;

use diesel_async::SimpleAsyncConnection as _;
use walferry_catalog::{
    CatalogError, ClaimRequest, Completed, CopyFailure, Enough, ReleaseAs, claims, clusters,
    completion,
};

use crate::world::{LEASE, LONGEST_DELAY, World, proof, repository, segment};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_that_claim_at_once_never_get_the_same_file() {
    const FILES: u32 = 600;
    let mut world = World::new().await;
    world.register_segments(FILES).await;
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(6));
    let tasks: Vec<_> = (0..6)
        .map(|worker| {
            let (catalog, barrier) = (world.catalog.clone(), barrier.clone());
            let (cluster, directory, up) = (world.cluster, world.directory, world.up.clone());
            tokio::spawn(async move {
                let mut conn = catalog.get().await.unwrap();
                let worker = format!("worker-{worker}");
                let mut mine = Vec::new();
                barrier.wait().await;
                loop {
                    let request = ClaimRequest {
                        worker: &worker,
                        lease: LEASE,
                        limit: 7,
                        cluster: Some(cluster),
                        directories: &[directory],
                        repositories_up: &up,
                        enough: Enough::AllRequired,
                        longest_delay: LONGEST_DELAY,
                    };
                    let claims = claims::claim(&mut conn, &request).await.unwrap();
                    if claims.is_empty() {
                        return mine;
                    }
                    mine.extend(claims.into_iter().map(|claim| claim.token));
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    let mut busy = 0;
    for task in tasks {
        let mine = task.await.unwrap();
        busy += usize::from(!mine.is_empty());
        all.extend(mine);
    }
    assert!(busy > 1, "only one worker got anything");
    assert_eq!(all.len(), FILES as usize, "each file once");
    let distinct: HashSet<_> = all.iter().map(|token| token.file).collect();
    assert_eq!(distinct.len(), all.len());
    assert!(all.iter().all(|token| token.attempt.get() == 1));
}

#[tokio::test]
async fn history_goes_first_and_segments_in_the_order_of_wal() {
    let mut world = World::new().await;
    world
        .register(&[
            "000000020000000000000003",
            "000000010000000100000000",
            "0000000100000000000000FF",
            "0000000100000000000000FF.00000028.backup",
            "0000000100000001000000A0.partial",
            "00000002.history",
        ])
        .await;
    // One at a time: the order is the statement's, not that of a sorted batch.
    let mut names = Vec::new();
    for _ in 0..6 {
        names.push(world.claim_one("w").await.file.to_string());
    }
    assert_eq!(
        names,
        [
            "00000002.history",
            "0000000100000000000000FF",
            "0000000100000000000000FF.00000028.backup",
            "000000010000000100000000",
            "0000000100000001000000A0.partial",
            "000000020000000000000003",
        ]
    );
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_and_counted_as_a_crash() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let first = world.claim_one("killed").await;
    assert_eq!(first.crashes, 0);
    assert!(world.claim("other", 1).await.is_empty(), "the lease holds");
    world.expire(first.token).await;
    let second = world.claim_one("other").await;
    assert_eq!(second.crashes, 1);
    assert_eq!(second.token.attempt.get(), first.token.attempt.get() + 1);
}

#[tokio::test]
async fn a_lease_is_measured_on_the_catalogs_clock() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let claim = world
        .claim_with("w", 1, Duration::from_secs(15))
        .await
        .remove(0);
    let left = "SELECT lease_until - clock_timestamp() BETWEEN interval '13 s' AND interval '15 s' FROM wal_files";
    assert_eq!(world.value(left).await.unwrap(), "true");
    claims::renew(&mut world.conn, &[claim.token], Duration::from_secs(100))
        .await
        .unwrap();
    let left = "SELECT lease_until - clock_timestamp() BETWEEN interval '98 s' AND interval '100 s' FROM wal_files";
    assert_eq!(world.value(left).await.unwrap(), "true");
}

#[tokio::test]
async fn a_lease_that_runs_out_is_claimed_again_without_anybodys_help() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let first = world
        .claim_with("killed", 1, Duration::from_millis(300))
        .await
        .remove(0);
    let directories = [world.directory];
    let request = ClaimRequest {
        directories: &directories,
        ..world_request(&world)
    };
    let wait = claims::next_wakeup(&mut world.conn, &request)
        .await
        .unwrap()
        .unwrap();
    assert!(wait <= Duration::from_millis(300), "{wait:?}");
    tokio::time::sleep(wait).await;
    let second = world.claim_one("other").await;
    assert_eq!(second.token.file, first.token.file);
}

fn world_request(world: &World) -> ClaimRequest<'static> {
    ClaimRequest {
        worker: "w",
        lease: LEASE,
        limit: 1,
        cluster: Some(world.cluster),
        directories: &[],
        repositories_up: Box::leak(world.up.clone().into_boxed_slice()),
        enough: Enough::AllRequired,
        longest_delay: LONGEST_DELAY,
    }
}

#[tokio::test]
async fn a_frozen_worker_that_comes_back_changes_nothing() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let frozen = world.claim_one("frozen").await;
    let packed = world.pack(&frozen).await;
    world.expire(frozen.token).await;
    // Nobody has taken the file over yet, and all the same each write is refused.
    for taken_over in [false, true] {
        if taken_over {
            world.claim_one("other").await;
        }
        let before = world.value("SELECT (f, c, l)::text FROM wal_files f, local_files l, copies c WHERE c.repository = 'r2'").await;
        let conn = &mut world.conn;
        let token = frozen.token;
        let lost = |result: Result<(), CatalogError>| {
            assert!(
                matches!(result, Err(CatalogError::LostClaim { .. })),
                "{result:?}"
            );
        };
        assert!(!claims::still_held(conn, token).await.unwrap());
        assert!(
            claims::renew(conn, &[token], LEASE)
                .await
                .unwrap()
                .is_empty()
        );
        lost(claims::release(conn, token, ReleaseAs::Drained).await);
        lost(completion::set_packed(conn, token, &packed).await);
        lost(completion::set_content(conn, token, packed.sha256, 1, &packed.encoder).await);
        lost(
            completion::prove_archived(conn, token, packed.sha256, Enough::AllRequired)
                .await
                .map(drop),
        );
        let proofs = vec![proof(&frozen, "r2"), proof(&frozen, "b2")];
        lost(
            completion::complete(conn, token, proofs, Vec::new(), Enough::AllRequired)
                .await
                .map(|_| ()),
        );
        let after = world.value("SELECT (f, c, l)::text FROM wal_files f, local_files l, copies c WHERE c.repository = 'r2'").await;
        assert_eq!(before, after);
    }
}

#[tokio::test]
async fn a_claim_that_was_released_cannot_be_used_any_more() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let claim = world.claim_one("w").await;
    claims::release(&mut world.conn, claim.token, ReleaseAs::Drained)
        .await
        .unwrap();
    assert!(
        !claims::still_held(&mut world.conn, claim.token)
            .await
            .unwrap()
    );
    let again = claims::release(&mut world.conn, claim.token, ReleaseAs::Drained).await;
    assert!(matches!(again, Err(CatalogError::LostClaim { .. })));
}

#[tokio::test]
async fn draining_costs_neither_a_failure_nor_a_crash_nor_a_wait() {
    let mut world = World::new().await;
    world.register_segments(3).await;
    let one = world.claim_one("w").await;
    claims::release(&mut world.conn, one.token, ReleaseAs::Drained)
        .await
        .unwrap();
    assert_eq!(world.claim("w", 10).await.len(), 3);
    assert_eq!(
        claims::release_all(&mut world.conn, "somebody else")
            .await
            .unwrap(),
        0
    );
    assert_eq!(claims::release_all(&mut world.conn, "w").await.unwrap(), 3);
    let again = world.claim("other", 10).await;
    assert_eq!(again.len(), 3);
    assert!(
        again
            .iter()
            .all(|claim| claim.failures == 0 && claim.crashes == 0)
    );
}

#[tokio::test]
async fn a_failed_file_waits_and_the_others_go_on() {
    let mut world = World::new().await;
    world.register_segments(2).await;
    let claim = world.claim_one("w").await;
    let failed = ReleaseAs::Failed {
        error: "disk error".to_owned(),
        cause: "io",
        retry_after: Duration::from_secs(60),
    };
    claims::release(&mut world.conn, claim.token, failed)
        .await
        .unwrap();
    let next = world.claim("w", 10).await;
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].file.to_string(), segment(2));
    assert_eq!(
        world
            .value(&format!(
                "SELECT failures FROM wal_files WHERE name = '{}'",
                segment(1)
            ))
            .await
            .unwrap(),
        "1"
    );
}

#[tokio::test]
async fn a_file_that_crashed_three_workers_is_tried_last_alone_and_late() {
    let mut world = World::new().await;
    world.register_segments(3).await;
    world
        .sql(&format!(
            "UPDATE wal_files SET crashes = 2, claimed_by = 'dead', lease_until = clock_timestamp() - interval '10 s' \
              WHERE name = '{}'",
            segment(1)
        ))
        .await;
    // Its third crash: the two others first.
    let others = world.claim("w", 10).await;
    assert_eq!(others.len(), 2);
    assert!(
        others
            .iter()
            .all(|claim| claim.file.to_string() != segment(1))
    );
    for claim in &others {
        world.archive(claim).await;
    }
    assert!(
        world.claim("w", 10).await.is_empty(),
        "the longest back-off is not over"
    );
    world.sql("UPDATE wal_files SET lease_until = lease_until - interval '300 s' WHERE claimed_by = 'dead'").await;

    // A worker that holds another file must not risk it.
    world.register(&[&segment(4), &segment(5)]).await;
    let healthy = world.claim("w", 1).await;
    assert_eq!(healthy[0].file.to_string(), segment(4));
    let rest = world.claim("other", 10).await;
    assert_eq!(rest.len(), 1);
    assert!(world.claim("w", 10).await.is_empty(), "`w` holds something");
    let alone = world.claim("idle", 10).await;
    assert_eq!(alone.len(), 1);
    assert_eq!(alone[0].crashes, 3);
    // And whoever holds it takes nothing else.
    world.register(&[&segment(6)]).await;
    assert!(world.claim("idle", 10).await.is_empty());
    assert_eq!(world.claim("w", 10).await.len(), 1);
    // Success forgives.
    let alone = alone.into_iter().next().unwrap();
    world.archive(&alone).await;
    assert_eq!(
        world
            .value(&format!(
                "SELECT crashes FROM wal_files WHERE name = '{}'",
                segment(1)
            ))
            .await
            .unwrap(),
        "0"
    );
}

/// As if a worker had crashed over it for the `crashes + 1`st time, `ago` seconds ago.
async fn crash(world: &mut World, name: &str, crashes: u32, ago: u32) {
    world
        .sql(&format!(
            "UPDATE wal_files SET crashes = {crashes}, claimed_by = 'dead', \
                    lease_until = clock_timestamp() - interval '{ago} s' WHERE name = '{name}'"
        ))
        .await;
}

#[tokio::test]
async fn a_file_that_crashes_every_worker_is_never_given_up() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    for crashes in 2..6 {
        crash(&mut world, &segment(1), crashes, 10).await;
        assert!(world.claim("w", 10).await.is_empty(), "it waits");
        crash(&mut world, &segment(1), crashes, 301).await;
        let claim = world.claim_one("w").await;
        assert_eq!(claim.crashes, crashes + 1);
    }
}

#[tokio::test]
async fn two_files_that_crashed_three_workers_are_not_tried_together() {
    let mut world = World::new().await;
    world.register_segments(2).await;
    for number in [1, 2] {
        crash(&mut world, &segment(number), 2, 301).await;
    }
    assert_eq!(world.claim("idle", 10).await.len(), 1);
    assert!(world.claim("idle", 10).await.is_empty(), "it holds one");
    assert_eq!(world.claim("another", 10).await.len(), 1);
}

#[tokio::test]
async fn nobody_is_woken_for_a_file_with_three_crashes_before_its_back_off_is_over() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let directories = [world.directory];
    for (crashes, wakeup) in [(1, 0), (2, 290)] {
        crash(&mut world, &segment(1), crashes, 5).await;
        let request = ClaimRequest {
            directories: &directories,
            ..world_request(&world)
        };
        let wait = claims::next_wakeup(&mut world.conn, &request)
            .await
            .unwrap()
            .unwrap();
        let seconds = wait.as_secs();
        assert!((wakeup..wakeup + 6).contains(&seconds), "{wait:?}");
    }
}

#[tokio::test]
async fn a_row_that_is_locked_is_passed_over_and_not_waited_for() {
    let mut world = World::new().await;
    world.register_segments(3).await;
    let mut other = world.catalog.get().await.unwrap();
    let lock = format!(
        "BEGIN; SELECT 1 FROM wal_files WHERE name = '{}' FOR UPDATE",
        segment(1)
    );
    other.batch_execute(&lock).await.unwrap();
    let claim = world.claim("w", 10);
    let claims = tokio::time::timeout(Duration::from_secs(20), claim)
        .await
        .expect("the claim waits for a lock");
    let names: Vec<_> = claims.iter().map(|claim| claim.file.to_string()).collect();
    assert_eq!(names, [segment(2), segment(3)]);
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(world.claim_one("w").await.file.to_string(), segment(1));
}

#[tokio::test]
async fn a_worker_gets_only_what_its_directories_and_the_clouds_allow() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let elsewhere = clusters::ensure_directory(&mut world.conn, world.cluster, "far", "/far")
        .await
        .unwrap();
    let (r2, b2) = ([repository("r2")], [repository("b2")]);
    let both = world.up.clone();
    let here = [world.directory];
    let elsewhere = [elsewhere];
    let all = Enough::AllRequired;
    assert!(
        world.claim_as(&elsewhere, &r2, all).await.is_empty(),
        "not on this host"
    );
    assert!(
        world.claim_as(&here, &[], all).await.is_empty(),
        "no cloud is up"
    );
    let claim = world.claim_as(&here, &r2, all).await.remove(0);
    // r2 has it; b2 is down and backs off.
    world.pack(&claim).await;
    let failure = CopyFailure {
        repository: repository("b2"),
        error: "connection refused".to_owned(),
        cause: "refused".to_owned(),
        retry_after: Duration::from_secs(60),
    };
    let proofs = vec![proof(&claim, "r2")];
    let completed = completion::complete(&mut world.conn, claim.token, proofs, vec![failure], all)
        .await
        .unwrap();
    assert!(matches!(completed, Completed::Waiting(_)));
    assert!(
        world.claim_as(&here, &r2, all).await.is_empty(),
        "r2 lacks nothing"
    );
    assert!(
        world.claim_as(&here, &both, all).await.is_empty(),
        "b2 backs off"
    );
    // b2 returns.
    assert_eq!(
        claims::make_due_now(&mut world.conn, &b2[0]).await.unwrap(),
        1
    );
    assert!(
        world.claim_as(&here, &r2, all).await.is_empty(),
        "b2 is not up for this worker"
    );
    assert!(
        world.claim_as(&elsewhere, &b2, all).await.is_empty(),
        "neither a disk nor a cloud to copy from"
    );
    // From cloud to cloud, on any host, when the source is up too.
    let healed = world.claim_as(&elsewhere, &both, all).await;
    assert_eq!(healed.len(), 1);
    assert!(healed[0].copies.iter().all(|copy| copy.due_in.is_none()));
}

#[tokio::test]
async fn above_the_high_water_mark_one_verified_copy_is_enough_to_claim_for_deletion() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let claim = world.claim_one("w").await;
    let packed = world.pack(&claim).await;
    let failure = CopyFailure {
        repository: repository("b2"),
        error: "503".to_owned(),
        cause: "server-error".to_owned(),
        retry_after: Duration::from_secs(60),
    };
    let _ = completion::complete(
        &mut world.conn,
        claim.token,
        vec![proof(&claim, "r2")],
        vec![failure],
        Enough::AllRequired,
    )
    .await
    .unwrap();
    assert!(world.claim("w", 10).await.is_empty());
    let one = Enough::Copies(1.try_into().unwrap());
    let (directories, up) = ([world.directory], world.up.clone());
    let claim = world.claim_as(&directories, &up, one).await.remove(0);
    let conn = &mut world.conn;
    assert!(
        completion::prove_archived(conn, claim.token, packed.sha256, Enough::AllRequired)
            .await
            .unwrap()
            .is_none()
    );
    let archived = completion::prove_archived(conn, claim.token, packed.sha256, one)
        .await
        .unwrap()
        .unwrap();
    assert!(!archived.all_required());
    assert_eq!(archived.copies(), [repository("r2")]);
    let deleted = [(claim.local[0].directory, claim.local[0].stat)];
    completion::local_deleted(conn, &archived, &deleted)
        .await
        .unwrap();
    assert_eq!(world.status(&segment(1)).await, "PENDING");
    // The missing copy is healed from the other cloud.
    claims::make_due_now(&mut world.conn, &repository("b2"))
        .await
        .unwrap();
    let heal = world.claim_one("w").await;
    assert!(heal.local.is_empty());
}

/// Rows that the server read since the last call of `forget_reads`.
async fn rows_read(world: &mut World) -> u64 {
    world.sql("SELECT pg_stat_force_next_flush()").await;
    let read = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables \
                 WHERE relname IN ('wal_files', 'copies', 'local_files')";
    let rows: u64 = world.value(read).await.unwrap().parse().unwrap();
    assert!(rows > 0, "statistics were not flushed");
    rows
}

async fn forget_reads(world: &mut World) {
    world.sql("VACUUM ANALYZE").await;
    world.sql("SELECT pg_stat_force_next_flush()").await;
    world.sql("SELECT pg_stat_reset()").await;
}

#[tokio::test]
async fn twenty_thousand_files_that_wait_for_one_cloud_are_not_in_the_way_of_new_ones() {
    let mut world = World::new().await;
    world.register_segments(20_000).await;
    // As `complete` leaves a file whose copy in b2 failed: r2 verified, b2 due again.
    world
        .sql(
            "UPDATE copies SET state = 'verified', verified_at = now() WHERE repository = 'r2'; \
             UPDATE copies SET attempts = 1, parked = true WHERE repository = 'b2'; \
             UPDATE wal_files SET parked = true, sha256 = sha256('x')",
        )
        .await;
    world.register(&[&segment(30_000)]).await;
    forget_reads(&mut world).await;
    let (here, r2, both) = ([world.directory], [repository("r2")], world.up.clone());
    let fresh = world.claim_as(&here, &r2, Enough::AllRequired).await;
    assert_eq!(fresh.len(), 1);
    assert_eq!(fresh[0].file.to_string(), segment(30_000));
    assert!(
        world
            .claim_as(&here, &r2, Enough::AllRequired)
            .await
            .is_empty()
    );
    let rows = rows_read(&mut world).await;
    assert!(rows < 300, "with b2 down two claims read {rows} rows");
    // b2 is back: its missing copies are found as directly.
    forget_reads(&mut world).await;
    let healing = world.claim_as(&here, &both, Enough::AllRequired).await;
    assert_eq!(healing.len(), 10);
    let rows = rows_read(&mut world).await;
    assert!(rows < 600, "with b2 up a claim read {rows} rows");
}

#[tokio::test]
async fn new_files_and_missing_copies_share_a_claim() {
    let mut world = World::new().await;
    world.register_segments(20).await;
    world
        .sql(
            "UPDATE copies SET parked = true FROM wal_files f WHERE f.id = file_id AND f.seg <= 10; \
             UPDATE wal_files SET parked = true WHERE seg <= 10",
        )
        .await;
    let claimed = world.claim("w", 10).await;
    let missing = claimed
        .iter()
        .filter(|claim| claim.file < segment(11).parse().unwrap())
        .count();
    assert_eq!((claimed.len(), missing), (10, 5));
    assert_eq!(
        world.claim("w", 20).await.len(),
        10,
        "and what one lacks the other gets"
    );
}

#[tokio::test]
async fn what_is_done_is_never_looked_at_again_by_a_claim() {
    let mut world = World::new().await;
    world.register_segments(20_000).await;
    world
        .sql(
            "UPDATE copies SET state = 'verified', verified_at = now(); \
             UPDATE local_files SET deleted_at = now(); \
             UPDATE wal_files SET status = 'VERIFIED', sha256 = sha256('x'), verified_at = now(), due_at = NULL",
        )
        .await;
    world.register(&[&segment(30_000)]).await;
    forget_reads(&mut world).await;
    assert_eq!(world.claim("w", 10).await.len(), 1);
    assert!(world.claim("w", 10).await.is_empty());
    let rows = rows_read(&mut world).await;
    assert!(
        rows < 300,
        "claims read {rows} rows to find one among 20,001"
    );
}

#[tokio::test]
async fn a_claim_does_not_walk_a_backlog_that_the_statistics_do_not_know() {
    const READ: &str = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes \
                         WHERE indexrelname IN ('copies_due', 'local_files_live', 'wal_files_unfinished')";
    let mut world = World::new().await;
    world.archived(&[&segment(1)]).await;
    world.sql("VACUUM ANALYZE").await;
    let files: Vec<_> = (2..2000).map(|n| world.found(&segment(n))).collect();
    world.register_files(&files).await;
    let before = read(&mut world, READ).await;
    let claim = world.claim_one("w").await;
    world.archive(&claim).await;
    let read = read(&mut world, READ).await - before;
    assert!(read < 100, "{read} entries were read for one file");
}

/// A statistic of the server, with what this connection did up to now.
async fn read(world: &mut World, query: &str) -> i64 {
    world.sql("SELECT pg_stat_force_next_flush()").await;
    world.sql("SELECT 1").await;
    let value = world.value(query).await;
    value.expect("a number").parse().expect("a number")
}
