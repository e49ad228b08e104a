//! Who tells of a cloud, and of which one.

use serde_json::Value;
use walferry_tests::wait;

use super::Clouds;
use crate::fault::Fault;
use crate::stage::Stage;

/// `check` asks each cloud itself, and says what it heard.
pub(super) fn by_check_itself(
    fault: Fault,
    clouds: Clouds,
    cause: &'static str,
    words: &'static str,
) -> Fault {
    let what = format!("check asks {clouds:?} and says `{cause}`: {words}");
    fault.told(what, move |stage| {
        found(stage, clouds, |cloud, finding| {
            finding["what"] == format!("repository {cloud}")
                && finding["code"] == cause
                && text(finding).contains(words)
        })
    })
}

/// `check` knows from the workers that copies are missing there, and why.
pub(super) fn by_check_as_behind(
    fault: Fault,
    clouds: Clouds,
    cause: &'static str,
    words: &'static str,
) -> Fault {
    // The failures behind an open breaker name what opened it.
    let last = format!("last failure: {cause}");
    let what = format!("check says that {clouds:?} are behind: {words}");
    fault.told(what, move |stage| {
        found(stage, clouds, |cloud, finding| {
            let text = text(finding);
            finding["what"] == format!("cluster main, {cloud}")
                && finding["code"] == "cloud-behind"
                && (text.contains(words) || text.contains(&last))
        })
    })
}

/// `check` says that a copy in each of these clouds needs a person.
pub(super) fn by_check(
    fault: Fault,
    clouds: Clouds,
    code: &'static str,
    words: &'static str,
) -> Fault {
    let what = format!("check says `{code}` of {clouds:?}: {words}");
    fault.told(what, move |stage| checked(stage, clouds, code, words))
}

/// The same, at once.
pub(super) fn checked(
    stage: &Stage,
    clouds: Clouds,
    code: &str,
    words: &str,
) -> Result<(), String> {
    found(stage, clouds, |cloud, finding| {
        let text = text(finding);
        let named = [format!("`{cloud}`"), format!("main, {cloud}")];
        finding["code"] == code
            && text.contains(words)
            && named.iter().any(|name| text.contains(name))
    })
}

/// `status` names the cause beside each cloud.
pub(super) fn by_status(fault: Fault, clouds: Clouds, cause: &'static str) -> Fault {
    let what = format!("status says `{cause}` of {clouds:?}");
    fault.told(what, move |stage| {
        standing(stage, clouds, |repository| repository["cause"] == cause)
    })
}

/// `status` says that copies are missing in each cloud.
pub(super) fn by_due_copies(fault: Fault, clouds: Clouds) -> Fault {
    let what = format!("status says that {clouds:?} are behind");
    fault.told(what, move |stage| {
        standing(stage, clouds, |repository| {
            repository["due"].as_u64().is_some_and(|due| due > 0)
        })
    })
}

/// `/readyz` is 503 and names each cloud and the cause; not at one moment, since one of two may
/// just be tried.
pub(super) fn by_readyz(fault: Fault, clouds: Clouds, cause: &'static str) -> Fault {
    clouds.iter().fold(fault, |fault, cloud| {
        fault.told(format!("/readyz says `{cause}` of {cloud}"), move |stage| {
            let (status, body) = stage.running_worker().http("/readyz")?;
            let report: Value = serde_json::from_str(&body).unwrap_or_default();
            let named = report["failing"][format!("repository:{cloud}")]
                .as_str()
                .is_some_and(|said| said.contains(cause));
            wait::is(status == 503 && named, format!("{status}: {body}"))
        })
    })
}

/// The metrics count requests with this outcome.
pub(super) fn by_requests(fault: Fault, clouds: Clouds, cause: &'static str) -> Fault {
    by_metric(
        fault,
        clouds,
        "walferry_repository_request_seconds_count",
        cause,
        0.0,
    )
}

/// The metrics tell of requests that took seconds.
pub(super) fn by_slow_requests(fault: Fault, clouds: Clouds) -> Fault {
    let metric = "walferry_repository_request_seconds_sum";
    by_metric(fault, clouds, metric, "ok", 4.0)
}

/// The metrics count copies that failed.
pub(super) fn by_failed_copies(fault: Fault, clouds: Clouds) -> Fault {
    by_metric(fault, clouds, "walferry_uploads_total", "failure", 0.0)
}

/// The samples of a metric with this cloud and outcome are together above `least`.
fn by_metric(
    fault: Fault,
    clouds: Clouds,
    metric: &'static str,
    outcome: &'static str,
    least: f64,
) -> Fault {
    let what = format!("{metric} of {clouds:?} with `{outcome}` is above {least}");
    fault.told(what, move |stage| {
        let (_, page) = stage.running_worker().http("/metrics")?;
        let of = |cloud: &str| -> f64 {
            let labels = [
                format!("repository=\"{cloud}\""),
                format!("outcome=\"{outcome}\""),
            ];
            page.lines()
                .filter(|line| line.starts_with(metric))
                .filter(|line| labels.iter().all(|label| line.contains(label)))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        let seen: Vec<_> = clouds.iter().map(|cloud| (*cloud, of(cloud))).collect();
        wait::is(
            seen.iter().all(|(_, sum)| *sum > least),
            format!("{seen:?}"),
        )
    })
}

/// Whether `check` has a critical finding like this for each cloud.
fn found(stage: &Stage, clouds: Clouds, fits: impl Fn(&str, &Value) -> bool) -> Result<(), String> {
    let findings = stage.findings();
    let critical: Vec<&Value> = findings
        .iter()
        .filter(|finding| finding["level"] == "critical")
        .collect();
    let all = clouds
        .iter()
        .all(|cloud| critical.iter().any(|finding| fits(cloud, finding)));
    wait::is(all, format!("{critical:?}"))
}

/// Whether `status` says this of each cloud.
fn standing(stage: &Stage, clouds: Clouds, fits: impl Fn(&Value) -> bool) -> Result<(), String> {
    let shown = stage.world.cli(&["--json", "status"]);
    let status: Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
    let repositories = &status["clusters"][0]["repositories"];
    let all = clouds.iter().all(|cloud| {
        repositories
            .as_array()
            .into_iter()
            .flatten()
            .any(|repository| repository["repository"] == *cloud && fits(repository))
    });
    wait::is(all, repositories.to_string())
}

fn text(finding: &Value) -> String {
    format!("{}: {}", finding["what"], finding["message"])
}
