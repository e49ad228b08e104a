//! Telling: events for the catalog, lines for the log.

use walferry_catalog::Cluster;
use walferry_catalog::events::{NewEvent, Severity};

use crate::report::{Outcome, Report};

/// What `check` and the status page should know of a run.
pub(crate) fn events_of(cluster: &Cluster, report: &Report) -> Vec<NewEvent> {
    let event = |severity, code, message| NewEvent {
        severity,
        code,
        cluster: Some(cluster.id),
        message,
    };
    let mut events = Vec::new();
    if let Outcome::Refused(refusals) = &report.outcome {
        for refusal in refusals.iter().filter(|refusal| refusal.needs_a_person()) {
            events.push(event(
                Severity::Warning,
                refusal.code(),
                refusal.to_string(),
            ));
        }
    }
    if report.due_again() > 0 {
        events.push(event(
            Severity::Warning,
            "retention-incomplete",
            report.to_string(),
        ));
    }
    events
}

/// What a person at the log should know of it.
pub(crate) fn log(report: &Report) {
    for prefix in &report.prefixes {
        for warning in &prefix.plan.warnings {
            tracing::warn!(cluster = report.cluster, prefix = %prefix.prefix, "{warning}");
        }
    }
    if let Outcome::Refused(refusals) = &report.outcome {
        for refusal in refusals {
            if refusal.needs_a_person() {
                tracing::error!(
                    cluster = report.cluster,
                    "retention refuses to act: {refusal}"
                );
            } else {
                tracing::info!(
                    cluster = report.cluster,
                    "retention does not act: {refusal}"
                );
            }
        }
    } else {
        tracing::info!(
            cluster = report.cluster,
            deleted = report.deleted(),
            due_again = report.due_again(),
            tombstones = report.tombstones,
            "retention: {report}"
        );
    }
}
