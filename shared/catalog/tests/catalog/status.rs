use std::time::Duration;

use walferry_catalog::clusters::Prefix;
use walferry_catalog::status::{self, Filter, GapKind, Since, Status, Trouble};
use walferry_catalog::{
    ClaimToken, CopyFailure, Enough, ReleaseAs, claims, clusters, completion, labels,
};
use walferry_wal::{Label, TimelineId};

use crate::world::{World, proof, repository, segment};

async fn prefix(world: &mut World) -> Prefix {
    clusters::clusters(&mut world.conn)
        .await
        .unwrap()
        .remove(0)
        .prefix
}

/// `timeline repository from..last since`, one a line.
async fn reach(world: &mut World) -> Vec<String> {
    let prefix = prefix(world).await;
    status::reach(&mut world.conn, &prefix)
        .await
        .unwrap()
        .into_iter()
        .map(|reach| {
            format!(
                "{} {} {}..{} {:?}",
                reach.timeline,
                reach
                    .repository
                    .map_or("all".to_owned(), |name| name.to_string()),
                &reach.from.to_string()[22..],
                reach
                    .last
                    .map_or("none".to_owned(), |name| name.to_string()[22..].to_owned()),
                reach.since,
            )
        })
        .collect()
}

async fn gaps(world: &mut World) -> Vec<String> {
    let prefix = prefix(world).await;
    status::gaps(&mut world.conn, &prefix)
        .await
        .unwrap()
        .into_iter()
        .map(|gap| {
            format!(
                "{}..{} {} {:?}",
                gap.first, gap.last, gap.segments, gap.kind
            )
        })
        .collect()
}

async fn only_in_r2(world: &mut World, name: &str) {
    world.register(&[name]).await;
    let claim = world.claim_one("w").await;
    world.pack(&claim).await;
    let failure = CopyFailure {
        repository: repository("b2"),
        error: "403 cap exceeded".to_owned(),
        cause: "denied".to_owned(),
        retry_after: Duration::from_secs(600),
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
}

#[tokio::test]
async fn the_reach_ends_before_the_first_hole_of_each_repository() {
    let mut world = World::new().await;
    assert!(reach(&mut world).await.is_empty(), "nothing is known");
    world.archived(&[&segment(1), &segment(2)]).await;
    only_in_r2(&mut world, &segment(3)).await;
    world.archived(&[&segment(4)]).await;
    assert_eq!(
        reach(&mut world).await,
        [
            "00000001 all 01..02 Oldest",
            "00000001 b2 01..02 Oldest",
            "00000001 r2 01..04 Oldest"
        ]
    );
    world.archived(&[&segment(6)]).await;
    assert_eq!(
        reach(&mut world).await[2],
        "00000001 r2 01..04 Oldest",
        "5 was never handed over"
    );
    assert_eq!(
        gaps(&mut world).await,
        [
            format!("{0}..{0} 1 {1:?}", segment(3), GapKind::NotVerified),
            format!("{0}..{0} 1 {1:?}", segment(5), GapKind::NeverSeen),
        ]
    );
}

#[tokio::test]
async fn a_missing_first_segment_is_no_reach_at_all() {
    let mut world = World::new().await;
    world.register(&[&segment(1)]).await;
    let held = world.claim_one("slow").await;
    world.archived(&[&segment(2), &segment(3)]).await;
    assert_eq!(reach(&mut world).await[0], "00000001 all 01..none Oldest");
    world.archive(&held).await;
    assert_eq!(reach(&mut world).await[0], "00000001 all 01..03 Oldest");
}

#[tokio::test]
async fn segments_follow_each_other_over_the_end_of_a_log_for_every_segment_size() {
    for (bytes, last_of_log) in [
        (16_u64 << 20, "000000FF"),
        (64 << 20, "0000003F"),
        (1 << 30, "00000003"),
    ] {
        let mut world = World::new().await;
        let size = bytes.try_into().unwrap();
        clusters::set_identity(
            &mut world.conn,
            world.prefix,
            "7300000000000000001".parse().unwrap(),
            size,
        )
        .await
        .unwrap();
        let last = format!("0000000100000001{last_of_log}");
        world
            .archived(&[
                &last,
                "000000010000000200000000",
                "000000010000000200000001",
            ])
            .await;
        assert!(
            gaps(&mut world).await.is_empty(),
            "{bytes}: {:?}",
            gaps(&mut world).await
        );
        assert!(reach(&mut world).await[0].contains("..01 "), "{bytes}");
    }
}

fn label(start: &str) -> Label {
    let segment: walferry_wal::SegmentName = start.parse().unwrap();
    Label {
        start_lsn: segment
            .start_lsn(walferry_wal::SegmentSize::DEFAULT)
            .unwrap(),
        start_segment: segment,
        stop_lsn: segment
            .start_lsn(walferry_wal::SegmentSize::DEFAULT)
            .unwrap(),
        stop_segment: segment,
        timeline: segment.timeline(),
        label: "nightly".to_owned(),
        start_time: None,
        stop_time: None,
        backup_from: walferry_wal::BackupFrom::Primary,
    }
}

#[tokio::test]
async fn a_newer_base_backup_makes_an_older_hole_harmless_but_not_invisible() {
    let mut world = World::new().await;
    let base = format!("{}.00000028.backup", segment(5));
    world
        .archived(&[&segment(1), &segment(4), &segment(5), &base, &segment(6)])
        .await;
    assert_eq!(reach(&mut world).await[0], "00000001 all 01..01 Oldest");
    let file = world
        .value(&format!("SELECT id FROM wal_files WHERE name = '{base}'"))
        .await
        .unwrap();
    let rows = status::list(
        &mut world.conn,
        &Filter {
            from: Some(base.clone()),
            to: Some(base.clone()),
            ..Filter::default()
        },
    )
    .await
    .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].id.to_string(), file);
    labels::insert_label(&mut world.conn, rows[0].id, &label(&segment(5)))
        .await
        .unwrap();
    assert_eq!(reach(&mut world).await[0], "00000001 all 05..06 Base");
    assert_eq!(
        gaps(&mut world).await,
        [format!(
            "{}..{} 2 {:?}",
            segment(2),
            segment(3),
            GapKind::NeverSeen
        )]
    );
    let known = labels::labels(&mut world.conn, world.prefix).await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].label, label(&segment(5)));
    assert!(known[0].verified);
}

#[tokio::test]
async fn a_timeline_begins_where_its_parent_was_left_and_the_parent_reaches_until_there() {
    let mut world = World::new().await;
    let two = TimelineId::new(2).unwrap();
    // Left inside segment 5; the last of timeline 1 handed over was 3.
    labels::insert_history(
        &mut world.conn,
        world.prefix,
        two,
        b"1\t0/5000100\tno recovery target specified\n",
    )
    .await
    .unwrap();
    let on_two = |n: u32| segment(n).replacen("00000001", "00000002", 1);
    world
        .archived(&[&segment(2), &segment(3), &on_two(6), &on_two(7)])
        .await;
    let reached = reach(&mut world).await;
    assert_eq!(reached[0], "00000001 all 02..03 Oldest");
    assert_eq!(reached[3], "00000002 all 05..none Switch");
    assert_eq!(
        gaps(&mut world).await,
        [
            format!("{0}..{0} 1 {1:?}", segment(4), GapKind::NeverSeen),
            format!("{0}..{0} 1 {1:?}", on_two(5), GapKind::NeverSeen),
        ]
    );
    world.archived(&[&segment(4), &on_two(5)]).await;
    assert!(gaps(&mut world).await.is_empty());
    assert_eq!(reach(&mut world).await[3], "00000002 all 05..07 Switch");
    assert_eq!(Since::Switch, Since::Switch);
}

#[tokio::test]
async fn archiving_switched_on_after_a_promotion_has_no_hole_before_it() {
    let mut world = World::new().await;
    let two = TimelineId::new(2).unwrap();
    labels::insert_history(&mut world.conn, world.prefix, two, b"1\t0/5000100\tx\n")
        .await
        .unwrap();
    world.archived(&["000000020000000000000020"]).await;
    assert!(gaps(&mut world).await.is_empty());
    assert_eq!(reach(&mut world).await[0], "00000002 all 20..20 Oldest");
}

#[tokio::test]
async fn the_operator_sees_which_cloud_is_behind_by_how_much_since_when_and_why() {
    let mut world = World::new().await;
    world.archived(&[&segment(1)]).await;
    only_in_r2(&mut world, &segment(2)).await;
    only_in_r2(&mut world, &segment(3)).await;
    let clouds = status::repositories(&mut world.conn, Some(world.cluster))
        .await
        .unwrap();
    let (b2, r2) = (&clouds[0], &clouds[1]);
    assert_eq!(
        (b2.repository.as_str(), b2.due, b2.cause.as_deref()),
        ("b2", 2, Some("denied"))
    );
    assert_eq!(b2.due_bytes, 2 * (16 << 20));
    assert!(b2.behind_since.is_some() && b2.next_try_at > b2.behind_since);
    assert_eq!(b2.last_error.as_deref(), Some("403 cap exceeded"));
    assert_eq!(
        (r2.repository.as_str(), r2.due, r2.behind_since),
        ("r2", 0, None)
    );

    let failures = status::failures(&mut world.conn, None, Duration::from_secs(3600))
        .await
        .unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        (failures[0].files, failures[0].cause.as_str()),
        (2, "denied")
    );
    world
        .sql("UPDATE copies SET failed_at = failed_at - interval '2 h'")
        .await;
    assert!(
        status::failures(&mut world.conn, None, Duration::from_secs(3600))
            .await
            .unwrap()
            .is_empty()
    );

    let counts = status::counts(&mut world.conn, Some(world.cluster))
        .await
        .unwrap();
    assert_eq!(
        (counts.pending, counts.verified, counts.expiring),
        (2, 1, 0)
    );
    assert_eq!(
        (counts.verified_bytes, counts.verified_stored_bytes),
        (16 << 20, 503_316)
    );
    let rate = status::rate(&mut world.conn, None, Duration::from_secs(600))
        .await
        .unwrap();
    assert_eq!((rate.files, rate.bytes), (1, 16 << 20));
    let (files, took) = rate.last;
    assert!(files == 1 && took < Duration::from_secs(60), "{took:?}");
    let backlog = claims::backlog(&mut world.conn, Some(world.cluster))
        .await
        .unwrap();
    assert_eq!((backlog.files, backlog.bytes), (2, 2 * (16 << 20)));
}

#[tokio::test]
async fn a_failure_that_was_mended_within_the_hour_is_still_told() {
    let mut world = World::new().await;
    world.register(&[&segment(1)]).await;
    let claim = world.claim_one("w").await;
    let failed = ReleaseAs::Failed {
        error: "read error".to_owned(),
        cause: "io",
        retry_after: Duration::ZERO,
    };
    claims::release(&mut world.conn, claim.token, failed)
        .await
        .unwrap();
    let claim = world.claim_one("w").await;
    world.archive(&claim).await;
    let failures = status::failures(&mut world.conn, None, Duration::from_secs(3600))
        .await
        .unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        (failures[0].repository.clone(), failures[0].files),
        (None, 1)
    );
}

async fn troubled(world: &mut World) -> Vec<(String, Trouble)> {
    status::troubled(&mut world.conn, None)
        .await
        .unwrap()
        .into_iter()
        .map(|row| (row.file.to_string(), row.trouble))
        .collect()
}

#[tokio::test]
async fn check_can_name_every_file_that_a_person_should_look_at() {
    let mut world = World::new().await;
    world.archived(&[&segment(9)]).await;
    world
        .register(&[&segment(2), &segment(3), &segment(4)])
        .await;
    assert!(
        troubled(&mut world).await.is_empty(),
        "waiting is no trouble"
    );
    world.sql(&format!("UPDATE local_files SET deleted_at = now() FROM wal_files f WHERE f.id = file_id AND f.name = '{}'", segment(2))).await;
    let mut last: Option<ClaimToken> = None;
    for _ in 0..3 {
        let claim = world.claim_one("w").await;
        assert_eq!(claim.file.to_string(), segment(3));
        world.expire(claim.token).await;
        last = Some(claim.token);
    }
    assert!(last.is_some());
    // The third crash shows before anybody took the lease over.
    assert_eq!(
        troubled(&mut world).await,
        [
            (segment(2), Trouble::Vanished),
            (segment(3), Trouble::Crashes),
        ]
    );
    let workers = status::workers(&mut world.conn).await.unwrap();
    assert_eq!(
        (workers.len(), workers[0].worker.as_str(), workers[0].claims),
        (1, "w", 1)
    );
}

#[tokio::test]
async fn ls_filters_and_pages_through_every_file_once() {
    let mut world = World::new().await;
    world.archived(&[&segment(1), &segment(2)]).await;
    only_in_r2(&mut world, &segment(3)).await;
    world.register(&["00000002.history"]).await;
    let mut filter = Filter {
        limit: 1,
        ..Filter::default()
    };
    let mut names = Vec::new();
    loop {
        let page = status::list(&mut world.conn, &filter).await.unwrap();
        let Some(row) = page.last() else { break };
        assert_eq!(page.len(), 1);
        names.push(row.file.to_string());
        filter.after = Some((row.file.to_string(), row.id));
    }
    assert_eq!(
        names,
        [
            segment(1),
            segment(2),
            segment(3),
            "00000002.history".to_owned()
        ]
    );
    let only = |status| Filter {
        status: Some(status),
        ..Filter::default()
    };
    let pending = status::list(&mut world.conn, &only(Status::Pending))
        .await
        .unwrap();
    assert_eq!(pending.len(), 2);
    let third = pending
        .iter()
        .find(|row| row.file.to_string() == segment(3))
        .unwrap();
    assert_eq!(third.local_paths, [format!("/archive/{}", segment(3))]);
    assert_eq!(third.copies[0].error.as_deref(), Some("403 cap exceeded"));
    let from = Filter {
        from: Some("00000002".to_owned()),
        ..Filter::default()
    };
    assert_eq!(status::list(&mut world.conn, &from).await.unwrap().len(), 1);
    let to = Filter {
        to: Some("00000001".to_owned()),
        ..Filter::default()
    };
    assert_eq!(status::list(&mut world.conn, &to).await.unwrap().len(), 3);
}
