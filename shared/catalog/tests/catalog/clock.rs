//! A catalog whose clock was set back: nothing waits for as long as it was.

use walferry_catalog::claims;

use crate::world::{LEASE, World, segment};

/// As the catalog looks when its clock is set back by an hour.
async fn an_hour_back(world: &mut World) {
    world
        .sql(
            "UPDATE wal_files SET lease_until = lease_until + interval '1 h', \
                                  due_at = due_at + interval '1 h'; \
             UPDATE copies SET due_at = due_at + interval '1 h'",
        )
        .await;
}

#[tokio::test]
async fn a_lease_further_ahead_than_its_length_is_cut_to_it_by_the_next_claim() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    let held = world.claim_one("dead").await;
    an_hour_back(&mut world).await;
    assert!(world.claim("other", 10).await.is_empty(), "it is held");
    let left = "SELECT (lease_until - clock_timestamp() BETWEEN interval '0' AND interval '30 s')::text \
                       AS value FROM wal_files";
    assert_eq!(world.value(left).await.as_deref(), Some("true"));
    // Whoever lives still has it.
    let renewed = claims::renew(&mut world.conn, &[held.token], LEASE).await;
    assert_eq!(renewed.unwrap(), [held.token]);
    world.expire(held.token).await;
    world
        .sql("UPDATE copies SET due_at = clock_timestamp()")
        .await;
    assert_eq!(world.claim_one("other").await.token.file, held.token.file);
}

#[tokio::test]
async fn a_longer_lease_of_another_worker_is_not_cut() {
    let mut world = World::new().await;
    world.register_segments(1).await;
    world.claim_with("slow", 1, LEASE * 10).await;
    assert!(world.claim("other", 10).await.is_empty());
    let left =
        "SELECT (lease_until - clock_timestamp() > interval '4 min')::text AS value FROM wal_files";
    assert_eq!(world.value(left).await.as_deref(), Some("true"));
}

#[tokio::test]
async fn a_file_and_a_copy_due_further_ahead_than_any_delay_are_due_no_later_than_that() {
    let mut world = World::new().await;
    world.register(&[&segment(1)]).await;
    world
        .sql("UPDATE wal_files SET due_at = due_at + interval '1 h'")
        .await;
    let claim = world.claim_one("w").await;
    assert_eq!(claim.file.to_string(), segment(1));
    an_hour_back(&mut world).await;
    world.expire(claim.token).await;
    assert!(world.claim("w", 10).await.is_empty(), "its copies wait");
    let left = "SELECT bool_and(due_at - clock_timestamp() BETWEEN interval '0' AND interval '60 s')::text \
                       AS value FROM copies";
    assert_eq!(world.value(left).await.as_deref(), Some("true"));
}
