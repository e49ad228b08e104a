//! `/metrics` of running programs.

use walferry_tests::wal::{Fill, Maker};
use walferry_tests::world::Program;
use walferry_tests::{Fault, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_042,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// Waits until a sample is as it should be.
#[track_caller]
fn await_sample(program: &Program, series: &str, wanted: impl Fn(f64) -> bool) {
    eventually(series, || {
        let seen = program.metric(series);
        wait::is(seen.is_some_and(&wanted), seen)
    });
}

#[track_caller]
fn await_absent(program: &Program, series: &str) {
    eventually(&format!("{series} is absent"), || {
        let seen = program.metric(series);
        wait::is(seen.is_none(), seen)
    });
}

#[test]
fn running_programs_tell_rate_backlog_ratio_uploads_statuses_lag_and_latency() {
    let mut world = World::builder().quick_clouds().build();
    world.cloud("b2").proxy().fault(Fault::Status(503));
    for number in 1..4 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    let worker = world.worker();
    let scheduler = world.scheduler();
    let uploads = |repository, outcome| {
        format!(r#"walferry_uploads_total{{repository="{repository}",outcome="{outcome}"}}"#)
    };
    await_sample(&worker, &uploads("r2", "success"), |copies| copies == 3.0);
    await_sample(&worker, &uploads("b2", "failure"), |copies| copies >= 1.0);
    let backlog = |repository| {
        format!(r#"walferry_backlog_files{{cluster="main",repository="{repository}"}}"#)
    };
    await_sample(&worker, &backlog("b2"), |files| files == 3.0);
    await_sample(&worker, &backlog("r2"), |files| files == 0.0);
    let lag = r#"walferry_lag_seconds{cluster="main"}"#;
    await_sample(&worker, lag, |lag| lag > 0.0);
    let claims = r#"walferry_claims_total{outcome="waiting"}"#;
    await_sample(&worker, claims, |claims| claims >= 3.0);

    world.cloud("b2").proxy().pass();
    world.await_archived();
    let archived = r#"walferry_segments_archived_total{cluster="main"}"#;
    await_sample(&worker, archived, |segments| segments == 3.0);
    let rate = "walferry_archive_rate_per_minute";
    await_sample(&worker, rate, |rate| rate > 0.0);
    let ratio = r#"walferry_compression_ratio{cluster="main"}"#;
    await_sample(&worker, ratio, |saved| saved > 0.0);
    let latency = r#"walferry_queue_latency_seconds{queue="backups"}"#;
    await_sample(&worker, latency, |latency| latency >= 0.0);
    // A worker's first reading is its most complete one.
    let another = world.worker();
    let verified = r#"walferry_catalog_files{cluster="main",status="VERIFIED"}"#;
    await_sample(&another, verified, |files| files == 3.0);
    let enqueued =
        r#"walferry_jobs_enqueued_total{job="continuous-wal-archiving",outcome="added"}"#;
    await_sample(&scheduler, enqueued, |jobs| jobs >= 1.0);
}

#[test]
fn the_stages_of_a_segment_are_counted() {
    let mut world = World::builder().quick_clouds().build();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    let worker = world.worker();
    world.await_archived();
    let count = |stage| format!(r#"walferry_segment_stage_seconds_count{{stage="{stage}"}}"#);
    for stage in ["wait", "read", "hash", "compress", "md5", "delete"] {
        await_sample(&worker, &count(stage), |segments| segments == 1.0);
    }
    // One commit before the uploads and one after them.
    await_sample(&worker, &count("catalog"), |commits| commits == 2.0);
}

#[test]
fn what_cannot_be_read_any_more_is_absent_and_not_as_good_as_it_was() {
    let mut world = World::builder().quick_clouds().build();
    let worker = world.worker();
    let lag = r#"walferry_lag_seconds{cluster="main"}"#;
    let backlog = r#"walferry_backlog_files{cluster="main",repository="r2"}"#;
    let latency = r#"walferry_queue_latency_seconds{queue="backups"}"#;
    for series in [lag, backlog, latency] {
        await_sample(&worker, series, |seen| seen == 0.0);
    }
    world.catalog_mut().crash();
    world.redis_mut().kill();
    for series in [lag, backlog, latency] {
        await_absent(&worker, series);
    }
    world.catalog_mut().start_again();
    world.redis_mut().start_again();
    for series in [lag, backlog, latency] {
        await_sample(&worker, series, |seen| seen >= 0.0);
    }
}

/// The scheduler is the one that tells of the queues when no worker runs.
#[test]
fn a_scheduler_tells_no_depth_while_redis_is_away_and_tells_it_again_after() {
    let mut world = World::builder().no_clouds().build();
    let scheduler = world.scheduler();
    let ready = r#"walferry_queue_jobs{queue="backups",state="ready"}"#;
    let latency = r#"walferry_queue_latency_seconds{queue="backups"}"#;
    for series in [ready, latency] {
        await_sample(&scheduler, series, |seen| seen >= 0.0);
    }
    world.redis_mut().kill();
    for series in [ready, latency] {
        await_absent(&scheduler, series);
    }
    world.redis_mut().start_again();
    for series in [ready, latency] {
        await_sample(&scheduler, series, |seen| seen >= 0.0);
    }
}
