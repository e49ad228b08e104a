//! Clouds, catalog and Redis behind TLS with a CA of one's own.

use walferry_tests::tls::Authority;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_030,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// b2 is behind TLS, and one segment waits.
fn world_with_b2_behind_tls() -> (World, Authority) {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.retry_base", "200ms")
        .setting("archive.retry_max", "1s")
        .build();
    let authority = Authority::new(world.folder());
    let front = authority.front(
        world.cloud("b2").proxy().address(),
        world.runtime().handle(),
    );
    world.set_variable("BACKBLAZE_B2_ENDPOINT_URL", &format!("https://{front}"));
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    (world, authority)
}

#[test]
fn a_cloud_with_a_ca_of_its_own_is_refused_until_the_setting_names_it() {
    let (mut world, authority) = world_with_b2_behind_tls();
    let refused = world.worker();
    eventually("b2 is refused for its certificate", || {
        let rows = world.rows("SELECT cause, last_error FROM copies WHERE repository = 'b2'");
        let tls = rows.iter().any(|row| row[0].as_deref() == Some("tls"));
        wait::is(tls, rows)
    });
    assert_eq!(world.cloud("b2").proxy().records().len(), 0);
    assert_ne!(world.backups()[&MAKER.name(1)].status, "VERIFIED");
    refused.terminate();
    refused.wait();

    let ca = authority.ca().display().to_string();
    world.set("repositories.b2.ca_certificates", &ca);
    world.worker();
    world.await_archived();
}

#[test]
fn a_cloud_with_a_ca_that_ssl_cert_file_names_is_trusted() {
    let (mut world, authority) = world_with_b2_behind_tls();
    world.set_variable("SSL_CERT_FILE", &authority.ca().display().to_string());
    world.worker();
    world.await_archived();
}

#[test]
fn a_catalog_with_sslmode_verify_full_and_redis_over_tls_work_and_are_refused_without_the_ca() {
    let mut world = World::builder().quick_clouds().build();
    let authority = Authority::new(world.folder());
    let (certificate, key) = authority.for_postgres();
    world.catalog_mut().set(&[
        ("ssl_cert_file", &certificate.display().to_string()),
        ("ssl_key_file", &key.display().to_string()),
        ("ssl", "on"),
    ]);
    let ca = authority.ca().display().to_string();
    let plain = world.environment()["DATABASE_URL"].clone();
    let redis = authority.front(
        ([127, 0, 0, 1], world.redis().port()).into(),
        world.runtime().handle(),
    );
    let url = plain.replace("sslmode=disable", "sslmode=verify-full");
    world.set_variable("DATABASE_URL", &url);
    world.set_variable("REDIS_URL", &format!("rediss://{redis}/0"));
    let gaps = world.cli(&["gaps"]);
    assert_ne!(gaps.code, 0, "{gaps:?}");
    assert!(
        gaps.stderr.to_lowercase().contains("certificate"),
        "{gaps:?}"
    );
    let queue = world.cli(&["queue", "stats"]);
    assert_ne!(queue.code, 0, "{queue:?}");
    assert!(
        queue.stderr.to_lowercase().contains("certificate"),
        "{queue:?}"
    );

    world.set_variable("DATABASE_URL", &format!("{url}&sslrootcert={ca}"));
    world.set("redis.ca_certificates", &ca);
    world.cli(&["gaps"]).ok();
    world.cli(&["queue", "stats"]).ok();
    world.worker();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.await_archived();
    let encrypted = "SELECT count(*) FILTER (WHERE NOT ssl), count(*) FILTER (WHERE ssl) > 0 \
         FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE datname = 'walferry' AND pid <> pg_backend_pid()";
    // The test's own last connection, which is not encrypted, may still be going.
    eventually("every connection of ours is encrypted", || {
        let rows = world.rows(encrypted);
        wait::is(rows == [[Some("0".to_owned()), Some("t".to_owned())]], rows)
    });
}
