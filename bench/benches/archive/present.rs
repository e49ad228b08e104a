//! Tables, goals and pictures of one part.

use std::time::Duration;

use walferry_bench::Report;
use walferry_bench::corpus::Corpus;

use crate::field::Outcome;
use crate::walferry;

/// The part's words; `suffix` tells its pictures from the other part's.
pub(crate) fn part(report: &mut Report, suffix: &str, outcomes: &[Outcome], corpus: &Corpus) {
    let segments = corpus.segments().len();
    table(report, outcomes, segments);
    servers(report, outcomes);
    let Some(ours) = outcomes.iter().find(|one| one.name == walferry::NAME) else {
        return;
    };
    for peer in outcomes.iter().filter(|one| one.name != walferry::NAME) {
        goals(report, ours, peer, segments);
    }
    time(report, outcomes, segments);
    let bars = |value: fn(&Outcome, usize) -> f64| -> Vec<(String, f64)> {
        outcomes
            .iter()
            .map(|one| (one.name.clone(), value(one, segments)))
            .collect()
    };
    report.chart(
        &format!("speed{suffix}"),
        "Segments archived to two clouds",
        "per second",
        &bars(speed),
    );
    report.chart(
        &format!("cpu{suffix}"),
        "Processor time of its own",
        "seconds",
        &bars(|one, _| one.cpu.as_secs_f64()),
    );
}

fn table(report: &mut Report, outcomes: &[Outcome], segments: usize) {
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|one| {
            let mut row = vec![
                one.name.clone(),
                seconds(one.wall),
                format!("{:.1}", speed(one, segments)),
                seconds(one.cpu),
                format!("{:.0}", mega(one.peak_rss)),
            ];
            row.extend(one.stored.iter().map(u64::to_string));
            row
        })
        .collect();
    report.table(
        &[
            "",
            "wall s",
            "seg/s",
            "own CPU s",
            "peak RSS MB",
            "bytes in r2",
            "bytes in b2",
        ],
        &rows,
    );
}

/// What the others used meanwhile, which is nobody's own.
fn servers(report: &mut Report, outcomes: &[Outcome]) {
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|one| {
            let used = [one.clouds, one.fronts, one.catalog, one.redis];
            let mut row = vec![one.name.clone()];
            row.extend(used.map(seconds));
            row.push(one.connections.to_string());
            row.push(one.remark.clone());
            row
        })
        .collect();
    report.table(
        &[
            "CPU s of the servers meanwhile",
            "two S3 servers",
            "TLS and link",
            "catalog",
            "Redis",
            "connections",
            "settings",
        ],
        &rows,
    );
}

fn goals(report: &mut Report, ours: &Outcome, peer: &Outcome, segments: usize) {
    let faster = speed(ours, segments) / speed(peer, segments);
    let cheaper = ours.cpu.as_secs_f64() / peer.cpu.as_secs_f64();
    let speed_goal = |report: &mut Report, goal: f64, words: &str| {
        report.goal(words, &format!("{faster:.2} times"), faster >= goal);
    };
    let cpu_goal = |report: &mut Report, goal: f64, words: &str| {
        report.goal(words, &format!("{cheaper:.2}"), cheaper <= goal);
    };
    match peer.name.as_str() {
        "pgBackRest gz 9" => {
            speed_goal(
                report,
                4.0,
                "at least 4 times the segments per second of pgBackRest at gz 9 (5 is the stretch)",
            );
            cpu_goal(report, 0.2, "at most a fifth of its CPU seconds");
        }
        "pgBackRest gz 6" => {
            speed_goal(
                report,
                2.0,
                "at least 2 times the segments per second of pgBackRest at gz 6",
            );
            cpu_goal(report, 0.5, "at most half of its CPU seconds");
        }
        "pgBackRest zst 3" => {
            speed_goal(
                report,
                0.9,
                "beside pgBackRest at zst 3: 0.9 times its segments per second (ahead is the stretch)",
            );
            report.paragraph(&format!(
                "Its CPU seconds: ours are {cheaper:.2} times those."
            ));
        }
        name if name.contains("Python") => {
            let (mine, theirs) = (total(ours), total(peer));
            #[expect(clippy::cast_precision_loss, reason = "a ratio")]
            let larger = mine as f64 / theirs as f64;
            report.goal(
                "stored at zlib 9's size (Python's gzip 9) or below",
                &format!("{:+.2} %", (larger - 1.0) * 100.0),
                mine <= theirs,
            );
            report.paragraph(&format!(
                "{faster:.1} times the segments per second of the old system's steps, {cheaper:.2} \
                 times their CPU seconds."
            ));
        }
        name => report.paragraph(&format!(
            "Distance to the floor: {faster:.2} times the segments per second of {name}, \
             {cheaper:.2} times its CPU seconds."
        )),
    }
}

/// Where the time goes: milliseconds for a segment, by stage.
fn time(report: &mut Report, outcomes: &[Outcome], segments: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let segments = segments as f64;
    for one in outcomes.iter().filter(|one| !one.stages.is_empty()) {
        let rows: Vec<Vec<String>> = one
            .stages
            .iter()
            .map(|(stage, seconds)| (stage, seconds * 1000.0 / segments))
            .filter(|(_, each)| *each >= 0.05)
            .map(|(stage, each)| vec![stage.clone(), format!("{each:.1}")])
            .collect();
        let title = format!("Where the time of {} goes", one.name);
        report.table(&[&title, "ms a segment"], &rows);
    }
    report.paragraph(
        "These are sums over all threads and requests, which overlap: they show what is dear, \
         not what is waited for.",
    );
}

fn speed(one: &Outcome, segments: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let segments = segments as f64;
    segments / one.wall.as_secs_f64()
}

fn total(one: &Outcome) -> u64 {
    one.stored.iter().sum()
}

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown without digits behind the point"
)]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
