//! `walferry check`: every dependency and promise on a line, with what to do.

use std::{borrow::Cow, process::ExitCode, time::Duration};

use chrono::Utc;
use clap::ValueEnum;

use crate::{checks, context::Context, output::table};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  walferry check\n  walferry check --nagios\n\nExits 0 when all is well, 1 on a warning or worse or unknown; with --nagios 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."
)]
pub(crate) struct Args {
    /// One line and the exit codes of a Nagios plugin
    #[arg(long)]
    nagios: bool,
}

/// How bad it is. Unknown is never shown as good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    Unknown,
    Warning,
    Critical,
}

/// One line.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What was looked at, e.g. `repository b2`.
    pub(crate) what: String,
    /// A word out of a bounded set, for alerts.
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

#[derive(serde::Serialize)]
struct Checked {
    at: chrono::DateTime<Utc>,
    level: Level,
    findings: Vec<Finding>,
}

/// The most that any one check may take.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let findings = checks::all(ctx, PATIENCE).await;
    let level = worst(&findings);
    let checked = Checked {
        at: Utc::now(),
        level,
        findings,
    };
    if args.nagios {
        println!("{}", nagios(&checked));
        return Ok(ExitCode::from(match level {
            Level::Ok => 0,
            Level::Warning => 1,
            Level::Critical => 2,
            Level::Unknown => 3,
        }));
    }
    ctx.output.show(&checked, text)?;
    Ok(if level == Level::Ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn worst(findings: &[Finding]) -> Level {
    findings
        .iter()
        .map(|finding| finding.level)
        .max()
        .unwrap_or(Level::Unknown)
}

fn text(checked: &Checked) -> String {
    let rows: Vec<Vec<String>> = checked
        .findings
        .iter()
        .map(|finding| {
            let hint = finding
                .hint
                .as_ref()
                .map_or(String::new(), |hint| format!(" HINT: {hint}"));
            vec![
                word(finding.level).to_owned(),
                finding.what.clone(),
                finding.code.to_string(),
                format!("{}{hint}", finding.message),
            ]
        })
        .collect();
    table(&["level", "what", "code", "finding"], &rows)
}

fn nagios(checked: &Checked) -> String {
    let bad: Vec<String> = checked
        .findings
        .iter()
        .filter(|finding| finding.level != Level::Ok)
        .map(|finding| format!("{}: {}", finding.what, finding.message))
        .collect();
    let said = if bad.is_empty() {
        format!("{} checks passed", checked.findings.len())
    } else {
        bad.join("; ")
    };
    // A plugin prints one line, and `|` begins performance data.
    format!(
        "WALFERRY {} - {}",
        word(checked.level),
        said.replace(['\n', '|'], " ")
    )
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "OK",
        Level::Unknown => "UNKNOWN",
        Level::Warning => "WARNING",
        Level::Critical => "CRITICAL",
    }
}

impl Finding {
    pub(crate) fn ok(
        what: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(Level::Ok, what, code, message, None)
    }

    pub(crate) fn new(
        level: Level,
        what: impl Into<String>,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        hint: Option<&str>,
    ) -> Self {
        Self {
            level,
            what: what.into(),
            code: code.into(),
            message: message.into(),
            hint: hint.map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(levels: &[Level]) -> Checked {
        let findings: Vec<Finding> = levels
            .iter()
            .map(|level| Finding::new(*level, "thing", "code", "a|b\nc", None))
            .collect();
        Checked {
            at: Utc::now(),
            level: worst(&findings),
            findings,
        }
    }

    #[test]
    fn unknown_is_never_shown_as_good_and_nothing_checked_is_unknown() {
        assert_eq!(checked(&[Level::Ok, Level::Unknown]).level, Level::Unknown);
        assert_eq!(checked(&[]).level, Level::Unknown);
        assert_eq!(
            checked(&[Level::Warning, Level::Critical]).level,
            Level::Critical
        );
    }

    #[test]
    fn the_nagios_line_is_one_line_without_a_pipe() {
        let line = nagios(&checked(&[Level::Critical]));
        assert_eq!(line, "WALFERRY CRITICAL - thing: a b c");
    }
}
