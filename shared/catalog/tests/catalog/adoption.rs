use chrono::{DateTime, Duration, Utc};
use walferry_catalog::{Adoption, CatalogError, adoption, claims};
use walferry_proof::{Sha256, sha256};

use crate::world::{World, content, proof_of, repository, segment};

fn adopted(name: &str, sha256: Sha256, last_modified: DateTime<Utc>) -> Adoption {
    Adoption {
        file: name.parse().unwrap(),
        sha256,
        size: 16 << 20,
        encoder: None,
        mtime: last_modified,
        last_modified,
    }
}

#[tokio::test]
async fn an_adopted_object_keeps_its_age() {
    let mut world = World::new().await;
    let name = segment(1);
    let then = Utc::now() - Duration::days(29);
    let file = adopted(&name, content(&name), then);
    let required = [repository("r2"), repository("b2")];
    let r2 = [proof_of(&file.file, file.sha256, "r2")];
    let first = adoption::adopt(&mut world.conn, world.prefix, &file, &r2, &required)
        .await
        .unwrap();
    assert!(first.new);
    assert_eq!(first.missing, [repository("b2")]);
    assert_eq!(world.status(&name).await, "PENDING", "one of two");
    // The missing one may be made from the other cloud.
    assert!(world.claim_one("w").await.local.is_empty());
    claims::release_all(&mut world.conn, "w").await.unwrap();

    let b2 = [proof_of(&file.file, file.sha256, "b2")];
    for _ in 0..2 {
        let second = adoption::adopt(&mut world.conn, world.prefix, &file, &b2, &required)
            .await
            .unwrap();
        assert!(!second.new && second.missing.is_empty());
        assert_eq!(second.file, first.file);
    }
    assert_eq!(world.status(&name).await, "VERIFIED");
    assert_eq!(
        world
            .value("SELECT verified_at < now() - interval '28 days' FROM wal_files")
            .await
            .unwrap(),
        "true"
    );
    assert_eq!(
        world
            .value("SELECT bool_and(verified_at > now() - interval '1 minute') FROM copies")
            .await
            .unwrap(),
        "true"
    );
    assert!(world.claim("w", 1).await.is_empty());
    assert_eq!(
        claims::backlog(&mut world.conn, None).await.unwrap().files,
        0
    );
}

#[tokio::test]
async fn an_object_with_other_content_or_another_name_is_not_adopted() {
    let mut world = World::new().await;
    world.archived(&[&segment(1)]).await;
    let required = [repository("r2"), repository("b2")];
    let before = world.value("SELECT string_agg(f::text || c::text, ',' ORDER BY c.repository) FROM wal_files f, copies c").await;
    let other = adopted(&segment(1), sha256(b"other"), Utc::now());
    let proofs = [proof_of(&other.file, other.sha256, "r2")];
    let result = adoption::adopt(&mut world.conn, world.prefix, &other, &proofs, &required).await;
    assert!(
        matches!(result, Err(CatalogError::Conflict { .. })),
        "{result:?}"
    );
    let good = adopted(&segment(1), content(&segment(1)), Utc::now());
    let foreign = [proof_of(&segment(2).parse().unwrap(), good.sha256, "r2")];
    let result = adoption::adopt(&mut world.conn, world.prefix, &good, &foreign, &required).await;
    assert!(
        matches!(result, Err(CatalogError::ForeignProof { .. })),
        "{result:?}"
    );
    let after = world.value("SELECT string_agg(f::text || c::text, ',' ORDER BY c.repository) FROM wal_files f, copies c").await;
    assert_eq!(before, after);
}

#[tokio::test]
async fn nothing_is_verified_without_a_proof() {
    let mut world = World::new().await;
    let file = adopted(&segment(1), content(&segment(1)), Utc::now());
    adoption::adopt(&mut world.conn, world.prefix, &file, &[], &[])
        .await
        .unwrap();
    assert_eq!(world.status(&segment(1)).await, "PENDING");
}

#[tokio::test]
async fn a_file_that_waits_on_disk_stays_claimable_after_its_object_was_adopted() {
    let mut world = World::new().await;
    world.register(&[&segment(1)]).await;
    let file = adopted(&segment(1), content(&segment(1)), Utc::now());
    let proofs = [
        proof_of(&file.file, file.sha256, "r2"),
        proof_of(&file.file, file.sha256, "b2"),
    ];
    let required = [repository("r2"), repository("b2")];
    adoption::adopt(&mut world.conn, world.prefix, &file, &proofs, &required)
        .await
        .unwrap();
    let claim = world.claim_one("w").await;
    assert!(claim.verified_before && claim.local.len() == 1);
}
