use std::time::Duration;

use walferry_catalog::{
    CatalogError, Completed, CopyFailure, Encoder, Enough, claims, clusters, completion, events,
    intake, suspects,
};
use walferry_proof::sha256;

use crate::world::{World, content, packed, proof, proof_of, repository, segment};

fn failure(name: &str) -> CopyFailure {
    CopyFailure {
        repository: repository(name),
        error: "connection refused".to_owned(),
        cause: "refused".to_owned(),
        retry_after: Duration::from_secs(30),
    }
}

#[tokio::test]
async fn verified_means_every_required_repository_and_never_less() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let claim = world.claim_one("w").await;
    world.pack(&claim).await;
    let completed = completion::complete(
        &mut world.conn,
        claim.token,
        vec![proof(&claim, "r2")],
        vec![failure("b2")],
        Enough::AllRequired,
    )
    .await
    .unwrap();
    let Completed::Waiting(waiting) = completed else {
        panic!("one copy of two is not archived");
    };
    assert_eq!(waiting.missing, [repository("b2")]);
    assert!(waiting.local_remains && !waiting.all_required);
    assert_eq!(world.status(&segment(1)).await, "PENDING");
    assert_eq!(world.value("SELECT verified_at FROM wal_files").await, None);
    let parked = "SELECT string_agg(c.repository || ':' || c.parked || ':' || f.parked, ' ' ORDER BY c.repository) \
                    FROM copies c JOIN wal_files f ON f.id = c.file_id";
    assert_eq!(
        world.value(parked).await.unwrap(),
        "b2:true:true r2:false:true",
        "out of the way of new files until b2 is up"
    );
    assert!(
        !claims::still_held(&mut world.conn, claim.token)
            .await
            .unwrap()
    );

    claims::make_due_now(&mut world.conn, &repository("b2"))
        .await
        .unwrap();
    let claim = world.claim_one("w").await;
    let completed = completion::complete(
        &mut world.conn,
        claim.token,
        vec![proof(&claim, "b2")],
        Vec::new(),
        Enough::AllRequired,
    )
    .await
    .unwrap();
    let Completed::Archived(archived) = completed else {
        panic!("both copies are verified");
    };
    assert!(archived.all_required());
    assert_eq!(archived.copies(), [repository("b2"), repository("r2")]);
    assert_eq!(archived.sha256(), content(&segment(1)));
    assert_eq!(world.status(&segment(1)).await, "VERIFIED");
    assert!(
        claims::still_held(&mut world.conn, claim.token)
            .await
            .unwrap(),
        "held until the file is deleted"
    );
}

#[tokio::test]
async fn one_copy_of_one_required_repository_is_all() {
    let mut world = World::new().await;
    let file = world.found(&segment(1));
    intake::register(
        &mut world.conn,
        world.prefix,
        world.directory,
        &[file],
        &[repository("r2")],
    )
    .await
    .unwrap();
    let claim = world.claim_one("w").await;
    world.pack(&claim).await;
    let completed = completion::complete(
        &mut world.conn,
        claim.token,
        vec![proof(&claim, "r2")],
        Vec::new(),
        Enough::AllRequired,
    )
    .await
    .unwrap();
    assert!(matches!(completed, Completed::Archived(_)));
    assert_eq!(world.status(&segment(1)).await, "VERIFIED");
}

#[tokio::test]
async fn a_name_with_other_content_is_a_conflict_and_changes_nothing() {
    let mut world = World::new().await;
    world.archived(&[&segment(1)]).await;
    world.register(&[&segment(1)]).await;
    let claim = world.claim_one("w").await;
    let mut other = packed(&segment(1));
    other.sha256 = sha256(b"another segment of that name");
    let before = world.value("SELECT f::text FROM wal_files f").await;
    for result in [
        completion::set_packed(&mut world.conn, claim.token, &other).await,
        completion::set_content(
            &mut world.conn,
            claim.token,
            other.sha256,
            1,
            &other.encoder,
        )
        .await,
        completion::prove_archived(
            &mut world.conn,
            claim.token,
            other.sha256,
            Enough::AllRequired,
        )
        .await
        .map(drop),
    ] {
        match result {
            Err(CatalogError::Conflict {
                name,
                recorded,
                found,
            }) => {
                assert_eq!(name, segment(1));
                assert_eq!((recorded, found), (content(&segment(1)), other.sha256));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.value("SELECT f::text FROM wal_files f").await, before);
}

#[tokio::test]
async fn a_proof_about_another_object_or_content_completes_nothing() {
    let mut world = World::new().await;
    world.register_segments(2).await;
    let claims = world.claim("w", 2).await;
    let (first, second) = (&claims[0], &claims[1]);
    let unpacked = completion::complete(
        &mut world.conn,
        first.token,
        vec![proof(first, "r2")],
        Vec::new(),
        Enough::AllRequired,
    )
    .await;
    assert!(
        matches!(unpacked, Err(CatalogError::NotPacked { .. })),
        "{unpacked:?}"
    );
    world.pack(first).await;
    let foreign = completion::complete(
        &mut world.conn,
        first.token,
        vec![proof(second, "r2")],
        Vec::new(),
        Enough::AllRequired,
    )
    .await;
    assert!(
        matches!(foreign, Err(CatalogError::ForeignProof { .. })),
        "{foreign:?}"
    );
    let other = proof_of(&first.file, sha256(b"other"), "r2");
    // The good proof before it must not survive the bad one.
    let conflict = completion::complete(
        &mut world.conn,
        first.token,
        vec![proof(first, "b2"), other],
        Vec::new(),
        Enough::AllRequired,
    )
    .await;
    assert!(
        matches!(conflict, Err(CatalogError::Conflict { .. })),
        "{conflict:?}"
    );
    assert_eq!(
        world
            .value("SELECT count(*) FROM copies WHERE state = 'verified'")
            .await
            .unwrap(),
        "0"
    );
}

#[tokio::test]
async fn the_encoder_that_was_recorded_is_told_to_the_next_claim() {
    let mut world = World::new().await;
    world.register_segments(2).await;
    let whole = world.claim_one("w").await;
    let streamed = world.claim_one("w").await;
    let mut packed = packed(&whole.file.to_string());
    packed.encoder.level = 3;
    completion::set_packed(&mut world.conn, whole.token, &packed)
        .await
        .unwrap();
    let zlib = Encoder {
        name: "zlib-rs".to_owned(),
        level: 4,
    };
    let sha256 = content(&streamed.file.to_string());
    completion::set_content(&mut world.conn, streamed.token, sha256, 1, &zlib)
        .await
        .unwrap();
    for (claim, encoder) in [(whole, packed.encoder), (streamed, zlib)] {
        world.expire(claim.token).await;
        let again = world.claim_one("w").await;
        assert_eq!((again.file, again.encoder), (claim.file, Some(encoder)));
    }
}

#[tokio::test]
async fn the_claim_ends_with_the_deletion_and_nothing_is_left_to_do() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let claim = world.claim_one("w").await;
    let archived = world.complete_all(&claim).await;
    assert!(world.claim("other", 1).await.is_empty());
    let deleted = [(claim.local[0].directory, claim.local[0].stat)];
    let finished = completion::local_deleted(&mut world.conn, &archived, &deleted)
        .await
        .unwrap();
    assert!(!finished.local_remains);
    assert_eq!(world.value("SELECT due_at FROM wal_files").await, None);
    assert!(
        !claims::still_held(&mut world.conn, claim.token)
            .await
            .unwrap()
    );
    let again = completion::local_deleted(&mut world.conn, &archived, &deleted).await;
    assert!(matches!(again, Err(CatalogError::LostClaim { .. })));
}

#[tokio::test]
async fn a_crash_between_commit_and_unlink_is_finished_by_the_next_claim() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let crashed = world.claim_one("crashed").await;
    let _ = world.complete_all(&crashed).await;
    world.expire(crashed.token).await;
    let claim = world.claim_one("w").await;
    assert!(claim.verified_before && claim.local.len() == 1);
    let archived = completion::prove_archived(
        &mut world.conn,
        claim.token,
        content(&segment(1)),
        Enough::AllRequired,
    )
    .await
    .unwrap()
    .expect("it was verified before");
    let deleted = [(claim.local[0].directory, claim.local[0].stat)];
    completion::local_deleted(&mut world.conn, &archived, &deleted)
        .await
        .unwrap();
    assert!(world.claim("w", 1).await.is_empty());
}

#[tokio::test]
async fn a_file_handed_over_again_while_the_old_one_is_deleted_stays_known() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let claim = world.claim_one("w").await;
    let archived = world.complete_all(&claim).await;
    world.register(&[&segment(1)]).await;
    let deleted = [(claim.local[0].directory, claim.local[0].stat)];
    let finished = completion::local_deleted(&mut world.conn, &archived, &deleted)
        .await
        .unwrap();
    assert!(finished.local_remains);
    assert_eq!(
        world
            .value("SELECT count(*) FROM local_files WHERE deleted_at IS NULL")
            .await
            .unwrap(),
        "1"
    );
}

#[tokio::test]
async fn healing_from_cloud_to_cloud_ends_the_claim() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let claim = world.claim_one("w").await;
    world.pack(&claim).await;
    let one = Enough::Copies(1.try_into().unwrap());
    let completed = completion::complete(
        &mut world.conn,
        claim.token,
        vec![proof(&claim, "r2")],
        vec![failure("b2")],
        one,
    )
    .await
    .unwrap();
    let Completed::Archived(archived) = completed else {
        panic!("one copy was enough");
    };
    let deleted = [(claim.local[0].directory, claim.local[0].stat)];
    completion::local_deleted(&mut world.conn, &archived, &deleted)
        .await
        .unwrap();
    claims::make_due_now(&mut world.conn, &repository("b2"))
        .await
        .unwrap();
    let heal = world.claim_one("w").await;
    let completed = completion::complete(
        &mut world.conn,
        heal.token,
        vec![proof(&heal, "b2")],
        Vec::new(),
        Enough::AllRequired,
    )
    .await
    .unwrap();
    let Completed::Waiting(waiting) = completed else {
        panic!("there is no local file to delete");
    };
    assert!(waiting.all_required && waiting.missing.is_empty() && !waiting.local_remains);
    assert_eq!(world.status(&segment(1)).await, "VERIFIED");
    assert_eq!(
        claims::backlog(&mut world.conn, None).await.unwrap().files,
        0
    );
}

#[tokio::test]
async fn a_failed_copy_waits_for_itself_only() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let claim = world.claim_one("w").await;
    world.pack(&claim).await;
    let _ = completion::complete(
        &mut world.conn,
        claim.token,
        Vec::new(),
        vec![failure("b2")],
        Enough::AllRequired,
    )
    .await
    .unwrap();
    let claim = world.claim_one("w").await;
    let b2 = claim
        .copies
        .iter()
        .find(|copy| copy.repository == repository("b2"))
        .unwrap();
    let r2 = claim
        .copies
        .iter()
        .find(|copy| copy.repository == repository("r2"))
        .unwrap();
    assert_eq!((b2.attempts, r2.attempts), (1, 0));
    assert!(b2.due_in.unwrap() > Duration::from_secs(25));
    assert_eq!(r2.due_in, None);
}

#[tokio::test]
async fn other_content_in_one_directory_is_set_aside_and_the_archive_stays() {
    let mut world = World::new().await;
    world.archived(&[&segment(1)]).await;
    let second = clusters::ensure_directory(&mut world.conn, world.cluster, "new", "/new")
        .await
        .unwrap();
    let file = world.found(&segment(1));
    let required = [repository("r2"), repository("b2")];
    intake::register(&mut world.conn, world.prefix, second, &[file], &required)
        .await
        .unwrap();
    let up = world.up.clone();
    let claim = world
        .claim_as(&[second], &up, Enough::AllRequired)
        .await
        .remove(0);
    completion::quarantine_local(
        &mut world.conn,
        claim.token,
        second,
        "other-content",
        "holds another segment",
    )
    .await
    .unwrap();
    assert_eq!(world.status(&segment(1)).await, "VERIFIED");
    let listed = suspects::list(&mut world.conn, Some(world.cluster))
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].critical);
    assert_eq!(listed[0].directory_path, "/new");
    suspects::keep_only(&mut world.conn, second, &[])
        .await
        .unwrap();
    assert_eq!(
        suspects::list(&mut world.conn, None).await.unwrap().len(),
        1,
        "a scan does not clear it"
    );
    assert_eq!(
        events::recent(&mut world.conn, Duration::from_secs(60))
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        claims::backlog(&mut world.conn, None).await.unwrap().files,
        0,
        "never claimed again by itself"
    );
    // A person moves it away.
    intake::gone(&mut world.conn, second, &[claim.file])
        .await
        .unwrap();
    suspects::keep_only(&mut world.conn, second, &[])
        .await
        .unwrap();
    assert!(
        suspects::list(&mut world.conn, None)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn the_commit_that_permits_a_deletion_is_durable_whatever_the_session_says() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let claim = world.claim_one("w").await;
    world.pack(&claim).await;
    world.sql("CREATE TABLE seen (value text)").await;
    world
        .sql(
            "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$",
        )
        .await;
    world
        .sql(
            "CREATE TRIGGER see AFTER UPDATE ON wal_files FOR EACH ROW \
             WHEN (NEW.status = 'VERIFIED') EXECUTE FUNCTION see()",
        )
        .await;
    world.sql("SET synchronous_commit = off").await;
    let completed = completion::complete(
        &mut world.conn,
        claim.token,
        vec![proof(&claim, "r2"), proof(&claim, "b2")],
        Vec::new(),
        Enough::AllRequired,
    )
    .await
    .unwrap();
    assert!(matches!(completed, Completed::Archived(_)));
    assert_eq!(
        world.value("SELECT value FROM seen LIMIT 1").await.unwrap(),
        "on"
    );
}

#[tokio::test]
async fn a_copy_that_is_withdrawn_is_due_again_and_its_file_verified_no_more() {
    let mut world = World::new().await;
    world.archived(&[&segment(1)]).await;
    world.register(&[&segment(1)]).await;
    let claim = world.claim_one("w").await;
    for _ in 0..2 {
        completion::withdraw(
            &mut world.conn,
            claim.token,
            &repository("r2"),
            "copy-damaged",
            "it unpacks to something else",
        )
        .await
        .unwrap();
    }
    assert_eq!(world.status(&segment(1)).await, "PENDING");
    let copies =
        "SELECT string_agg(repository || ':' || state, ' ' ORDER BY repository) FROM copies";
    assert_eq!(world.value(copies).await.unwrap(), "b2:verified r2:due");
    let told = events::recent(&mut world.conn, Duration::from_secs(60))
        .await
        .unwrap();
    let told: Vec<_> = told
        .iter()
        .filter(|event| event.code == "damaged-copy")
        .collect();
    assert_eq!(told.len(), 1, "once");
    assert_eq!(told[0].severity, events::Severity::Critical);
}
