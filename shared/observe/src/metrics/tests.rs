use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_metric_has_a_unit_and_labels_of_bounded_sets() {
    let metrics = Metrics::new();
    metrics.segment_archived("main", 1_000, 30, SECOND);
    metrics.upload("r2", true);
    metrics.upload("b2", false);
    metrics.backlog("main", "b2", 7, SECOND);
    metrics.status_count("main", "VERIFIED", 3);
    metrics.suspects("main", 2);
    metrics.lag("main", SECOND);
    metrics.rpo("main", Some(SECOND));
    metrics.request("r2", "put", "ok", SECOND, 30);
    metrics.breaker("b2", BreakerState::Open);
    metrics.claims(ClaimOutcome::Claimed, 16);
    metrics.crash();
    metrics.segment_stage("compress", SECOND);
    metrics.spool("main", "main", 7, 1_000, 0.5);
    metrics.job("retention", JobOutcome::Done, SECOND);
    metrics.job_waited("backups", SECOND);
    let depth = QueueDepth {
        ready: 1,
        delayed: 2,
        leased: 3,
        dead: 4,
        unknown: 5,
        oldest_ready: SECOND,
    };
    metrics.queue("backups", depth);
    metrics.enqueued("retention", EnqueueOutcome::Added);
    metrics.retention_deleted("r2", 5);
    metrics.base_backup("main", 1_000, 30, SECOND);
    metrics.base_backup_age("main", "r2", Some(SECOND));
    metrics.base_backup_age("main", "b2", None);
    metrics.base_backup_failures("main", 2);
    metrics.readiness(&Report {
        status: "failing",
        failing: [("catalog".into(), "away".into())].into(),
        passed: vec!["redis:backups".into()],
    });
    // One bucket of a histogram tells as much as all thirteen.
    let mut text: Vec<String> = metrics
        .encode()
        .lines()
        .filter(|line| !line.contains("_bucket{") || line.contains("+Inf"))
        .map(str::to_owned)
        .collect();
    // Series of one metric come in no order.
    text.sort();
    insta::assert_snapshot!(text.join("\n"));
}

fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.encode();
    let line = text
        .lines()
        .find(|line| line.split(' ').next() == Some(series))?;
    line.split(' ').nth(1)?.parse().ok()
}

#[test]
fn an_rpo_that_is_unknown_has_no_value() {
    let metrics = Metrics::new();
    metrics.rpo("main", Some(SECOND));
    assert_eq!(
        value(&metrics, r#"walferry_rpo_seconds{cluster="main"}"#),
        Some(1.0)
    );
    metrics.rpo("main", None);
    assert_eq!(
        value(&metrics, r#"walferry_rpo_seconds{cluster="main"}"#),
        None
    );
    assert_eq!(
        value(&metrics, r#"walferry_rpo_known{cluster="main"}"#),
        Some(0.0)
    );
}

#[test]
fn what_nobody_can_read_any_more_has_no_value() {
    let metrics = Metrics::new();
    metrics.backlog("main", "b2", 0, Duration::ZERO);
    metrics.status_count("main", "VERIFIED", 3);
    metrics.suspects("main", 0);
    metrics.lag("main", Duration::ZERO);
    metrics.spool("main", "main", 0, 0, 0.1);
    metrics.queue("backups", QueueDepth::default());
    let told = |metrics: &Metrics| {
        let text = metrics.encode();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.filter(|line| line.contains('{')).count()
    };
    assert_eq!(told(&metrics), 15);
    metrics.spool_unknown("main", "main");
    assert_eq!(told(&metrics), 12, "only that nobody can scan it is known");
    metrics.catalog_unknown();
    assert_eq!(told(&metrics), 6, "the queue's are known");
    metrics.queues_unknown();
    assert_eq!(told(&metrics), 0);
}

#[test]
fn the_compression_ratio_is_the_share_that_was_saved() {
    let metrics = Metrics::new();
    metrics.segment_archived("main", 1_000, 30, SECOND);
    let ratio = value(&metrics, r#"walferry_compression_ratio{cluster="main"}"#);
    assert_eq!(ratio, Some(0.97));
}

#[test]
fn the_archive_rate_forgets_what_is_older_than_its_window() {
    let metrics = Metrics::new();
    let now = Instant::now();
    {
        let mut recent = metrics.0.recent.lock().unwrap();
        recent.push_back(now);
        recent.push_back(now + RATE_WINDOW);
    }
    assert_eq!(metrics.recent_count(now + RATE_WINDOW), 2);
    assert_eq!(metrics.recent_count(now + RATE_WINDOW + SECOND), 1);
}
