//! When a run refuses, and that it then deletes nothing.

use chrono::TimeDelta;
use walferry_catalog::clusters;
use walferry_catalog::holds::{self, Release};
use walferry_retain::{Consent, Outcome, Refusal};

use crate::world::{World, segments};

/// That nothing was asked for or changed.
async fn untouched(world: &mut World) {
    for bucket in [&world.r2, &world.b2] {
        assert_eq!(bucket.deletes(), Vec::<String>::new());
        assert_eq!(bucket.names(), segments(0..41));
    }
    let rows = world.rows().await;
    assert!(
        !rows.contains("EXPIRING") && rows.lines().count() == 41,
        "{rows}"
    );
}

#[tokio::test]
async fn a_hold_stops_all_deletion_until_it_is_released() {
    let mut world = World::one_a_day(40).await;
    for cluster in [None, Some(world.cluster.id)] {
        let id = holds::hold(&mut world.conn, cluster, "audit", "ann")
            .await
            .unwrap();
        let refusals = world.refusals().await;
        let said = refusals[0].to_string();
        assert!(said.contains("by ann") && said.contains("audit"), "{said}");
        untouched(&mut world).await;
        let released = holds::release(&mut world.conn, Release::Of(cluster), "ann").await;
        assert_eq!(released.unwrap(), [id]);
    }
    assert_eq!(world.apply().await.deleted(), 22);
}

#[tokio::test]
async fn a_hold_on_another_cluster_stops_nothing_here() {
    let mut world = World::one_a_day(40).await;
    let prefix = "other/".parse().unwrap();
    let other = clusters::ensure_cluster(&mut world.conn, "other", &prefix)
        .await
        .unwrap();
    holds::hold(&mut world.conn, Some(other.id), "audit", "ann")
        .await
        .unwrap();
    assert_eq!(world.apply().await.deleted(), 22);
}

#[tokio::test]
async fn a_clock_eleven_minutes_from_a_cloud_s_refuses_and_nine_do_not() {
    for (minutes, refused) in [(11, true), (-11, true), (9, false), (-9, false)] {
        let mut world = World::one_a_day(40).await;
        world.b2.set_ahead(TimeDelta::minutes(minutes));
        if refused {
            let refusals = world.refusals().await;
            assert!(
                matches!(&refusals[..], [Refusal::Clock { repository: Some(name), .. }] if name.as_str() == "b2")
            );
            untouched(&mut world).await;
        } else {
            assert_eq!(world.apply().await.deleted(), 22);
        }
    }
}

#[tokio::test]
async fn a_plan_above_the_share_needs_consent() {
    let mut world = World::one_a_day(40).await;
    world.policy.max_delete_share = 11.0 / 41.0 - 0.001;
    let refusals = world.refusals().await;
    assert!(
        matches!(refusals[..], [Refusal::Share { .. }]),
        "{refusals:?}"
    );
    assert!(
        refusals[0].to_string().contains("26.8 %"),
        "{}",
        refusals[0]
    );
    untouched(&mut world).await;
    let events = "SELECT string_agg(severity || ' ' || code, ',') FROM events";
    assert_eq!(world.value(events).await, "warning retention-share");

    let retention = world.retention();
    let report = retention.apply(&world.cluster, Consent::Yes).await.unwrap();
    assert_eq!(report.deleted(), 22);
    world.policy.max_delete_share = 11.0 / 41.0;
    assert!(matches!(world.apply().await.outcome, Outcome::Done));
}

#[tokio::test]
async fn consent_to_the_share_overrules_no_other_guard() {
    let mut world = World::one_a_day(40).await;
    world.policy.max_delete_share = 0.0;
    world.r2.set_ahead(TimeDelta::hours(9));
    let retention = world.retention();
    let report = retention.apply(&world.cluster, Consent::Yes).await.unwrap();
    assert!(matches!(report.outcome, Outcome::Refused(_)), "{report}");
    untouched(&mut world).await;
}
