use walferry_catalog::{LocalStat, SeenFile, claims, clusters, events, intake};
use walferry_wal::WalFile;

use crate::world::{World, repository, segment};

#[tokio::test]
async fn a_file_is_known_only_as_it_is_on_disk() {
    let mut world = World::new().await;
    let files = world
        .register(&[&segment(1), &segment(2), "00000002.history"])
        .await;
    let mut seen: Vec<SeenFile> = files
        .iter()
        .map(|file| SeenFile {
            file: file.file,
            stat: file.stat,
        })
        .collect();
    let directory = world.directory;
    assert!(
        intake::unknown(&mut world.conn, directory, &seen)
            .await
            .unwrap()
            .is_empty()
    );
    seen[1].stat.mtime_ns += 1;
    seen.push(SeenFile {
        file: segment(3).parse().unwrap(),
        stat: seen[0].stat,
    });
    assert_eq!(
        intake::unknown(&mut world.conn, directory, &seen)
            .await
            .unwrap(),
        [1, 3]
    );
    let other = clusters::ensure_directory(&mut world.conn, world.cluster, "new", "/new")
        .await
        .unwrap();
    assert_eq!(
        intake::unknown(&mut world.conn, other, &seen)
            .await
            .unwrap(),
        [0, 1, 2, 3]
    );
}

#[tokio::test]
async fn an_inode_of_64_bits_comes_back_as_it_was() {
    let mut world = World::new().await;
    let mut file = world.found(&segment(1));
    file.stat = LocalStat {
        dev: u64::MAX,
        ino: u64::MAX - 1,
        size: 1 << 20,
        mtime_ns: -1,
    };
    world.register_files(&[file]).await;
    let seen = [SeenFile {
        file: file.file,
        stat: file.stat,
    }];
    let directory = world.directory;
    assert!(
        intake::unknown(&mut world.conn, directory, &seen)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(world.claim_one("w").await.local[0].stat, file.stat);
}

#[tokio::test]
async fn registering_again_changes_nothing_but_makes_it_claimable() {
    let mut world = World::new().await;
    world.archived(&[&segment(1)]).await;
    assert!(world.claim("w", 10).await.is_empty(), "everything is done");
    // PostgreSQL hands the same name over again after a crash: another inode.
    world.register(&[&segment(1)]).await;
    assert_eq!(world.status(&segment(1)).await, "VERIFIED");
    assert_eq!(
        world
            .value("SELECT count(*) FROM copies WHERE state = 'verified'")
            .await
            .unwrap(),
        "2"
    );
    let claim = world.claim_one("w").await;
    assert!(claim.verified_before);
    assert_eq!(claim.local.len(), 1);
}

#[tokio::test]
async fn one_name_in_two_directories_is_one_file_in_two_places() {
    let mut world = World::new().await;
    world.register(&[&segment(1)]).await;
    let second = clusters::ensure_directory(&mut world.conn, world.cluster, "new", "/new")
        .await
        .unwrap();
    let file = world.found(&segment(1));
    let required = [repository("r2"), repository("b2")];
    let registered = intake::register(&mut world.conn, world.prefix, second, &[file], &required)
        .await
        .unwrap();
    assert_eq!((registered.new, registered.again), (0, 1));
    let claim = world.claim_one("w").await;
    assert_eq!(claim.local.len(), 2);
    assert_eq!(claim.copies.len(), 2);
}

#[tokio::test]
async fn a_hundred_thousand_names_are_registered_and_compared_in_seconds() {
    let mut world = World::new().await;
    let started = std::time::Instant::now();
    world.register_segments(100_000).await;
    let seen: Vec<SeenFile> = (1..=100_000)
        .map(|n| SeenFile {
            file: segment(n).parse().unwrap(),
            stat: LocalStat {
                dev: 7,
                ino: u64::from(n) + 1,
                size: 16 << 20,
                mtime_ns: 1_700_000_000_000_000_000,
            },
        })
        .collect();
    let directory = world.directory;
    assert!(
        intake::unknown(&mut world.conn, directory, &seen)
            .await
            .unwrap()
            .is_empty()
    );
    let claimed = world.claim("w", 10).await;
    assert_eq!(claimed[0].file.to_string(), segment(1));
    // Bound far above what it takes, far below what a query per name would.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    println!("100,000 names: {:?}", started.elapsed());
}

#[tokio::test]
async fn a_file_that_vanished_before_it_was_archived_is_a_critical_event() {
    let mut world = World::new().await;
    world.archived(&[&segment(1)]).await;
    world
        .register(&[&segment(1), &segment(2), &segment(3)])
        .await;
    let present: Vec<WalFile> = vec![segment(3).parse().unwrap()];
    let directory = world.directory;
    let missing = intake::missing(&mut world.conn, directory, &present)
        .await
        .unwrap();
    assert_eq!(
        missing,
        [segment(1).parse().unwrap(), segment(2).parse().unwrap()]
    );
    let vanished = intake::gone(&mut world.conn, directory, &missing)
        .await
        .unwrap();
    assert_eq!(
        vanished,
        [segment(2).parse().unwrap()],
        "the archived one is no loss"
    );
    let events = events::recent(&mut world.conn, std::time::Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(events.len(), 1);
    assert!(events[0].message.contains(&segment(2)));
    // The archived one is done again; the vanished one can only be handed over again.
    let names: Vec<_> = world
        .claim("w", 10)
        .await
        .into_iter()
        .map(|claim| claim.file)
        .collect();
    assert_eq!(names, present);
    let backlog = claims::backlog(&mut world.conn, None).await.unwrap();
    assert_eq!((backlog.files, backlog.claimed), (2, 1));
}

#[tokio::test]
async fn a_file_handed_over_while_it_expires_is_registered_anew_once_it_is_gone() {
    let mut world = World::new().await;
    world.archived(&[&segment(1)]).await;
    world
        .sql("UPDATE wal_files SET status = 'EXPIRING'; UPDATE copies SET state = 'expiring'")
        .await;
    let file = world.found(&segment(1));
    let seen = [SeenFile {
        file: file.file,
        stat: file.stat,
    }];
    let directory = world.directory;
    world.register_files(&[file]).await;
    assert_eq!(world.status(&segment(1)).await, "EXPIRING");
    assert_eq!(world.value("SELECT due_at FROM wal_files").await, None);
    assert!(
        world.claim("w", 1).await.is_empty(),
        "nobody touches a file that retention deletes"
    );
    world.sql("DELETE FROM wal_files").await;
    assert_eq!(
        intake::unknown(&mut world.conn, directory, &seen)
            .await
            .unwrap(),
        [0]
    );
    world.register_files(&[file]).await;
    assert!(!world.claim_one("w").await.verified_before);
}

#[tokio::test]
async fn a_scan_that_finds_what_is_noted_writes_nothing_until_the_note_is_old() {
    let mut world = World::new().await;
    let report = intake::ScanReport {
        scanned_by: "w".to_owned(),
        files: 0,
        bytes: 0,
        fs_total: 1000,
        fs_available: 500,
        newest_arrival: None,
    };
    let more = |files| intake::ScanReport {
        files,
        ..report.clone()
    };
    let fuller = |fs_available| intake::ScanReport {
        fs_available,
        ..report.clone()
    };
    assert!(is_noted(&mut world, &report).await, "the first");
    assert!(!is_noted(&mut world, &report).await, "the same again");
    assert!(!is_noted(&mut world, &fuller(491)).await, "hardly fuller");
    assert!(is_noted(&mut world, &fuller(489)).await, "fuller");
    assert!(is_noted(&mut world, &more(1)).await, "a file");
    for ago in ["8 min", "-1 h"] {
        let long_ago =
            format!("UPDATE directories SET last_scan_at = clock_timestamp() - interval '{ago}'");
        world.sql(&long_ago).await;
        assert!(is_noted(&mut world, &more(1)).await, "noted {ago} ago");
    }
    let directory = world.directory;
    intake::scan_failed(&mut world.conn, directory, "away")
        .await
        .unwrap();
    assert!(is_noted(&mut world, &more(1)).await, "it failed before");
}

async fn is_noted(world: &mut World, report: &intake::ScanReport) -> bool {
    let row = "SELECT ctid FROM directories";
    let before = world.value(row).await;
    let directory = world.directory;
    intake::touch_scan(&mut world.conn, directory, report)
        .await
        .unwrap();
    world.value(row).await != before
}
