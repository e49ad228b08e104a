//! `walferry backups`: the base backups, where each lies and what it can recover to.

mod keep;
mod read;

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use walferry_config::{Clusters, Repositories};

use super::backup::{one, reachable};
use crate::{
    context::Context,
    output::{bytes, duration, table},
};

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  walferry backups\n  walferry --json backups --cluster main\n  walferry backups keep 20261103T193000Z --until '2027-01-01 00:00:00+00'\n\nReads the buckets; the catalog only helps. A base backup is usable in a repository when the WAL from its start to its stop lies there, too."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only this cluster
    #[arg(long)]
    cluster: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Have retention leave a base backup and its WAL alone, for ever or until a time
    #[command(
        after_help = "Examples:\n  walferry backups keep 20261103T193000Z\n  walferry backups keep 20261103T193000Z --until '2027-01-01 00:00:00+00'\n  walferry backups keep 20261103T193000Z --off"
    )]
    Keep(keep::Args),
}

/// What is known.
#[derive(serde::Serialize)]
struct Shown {
    bases: Vec<Base>,
    /// Repositories that could not be listed: of them the catalog's word counts, if it has one.
    unreachable: Vec<Unreachable>,
    /// Why the catalog was not asked; null when it was.
    catalog_error: Option<String>,
}

#[derive(serde::Serialize)]
struct Unreachable {
    repository: String,
    error: String,
}

/// One base.
#[derive(serde::Serialize)]
struct Base {
    cluster: String,
    prefix: String,
    label: String,
    /// Absent for one that was begun and is complete nowhere.
    #[serde(flatten)]
    facts: Option<Facts>,
    keep: bool,
    /// Null with `keep`: for ever.
    keep_until: Option<DateTime<Utc>>,
    repositories: Vec<Holding>,
}

#[derive(serde::Serialize)]
struct Facts {
    system_id: String,
    server_version: u32,
    from_standby: bool,
    started_at: DateTime<Utc>,
    stopped_at: DateTime<Utc>,
    seconds: u64,
    size: u64,
    stored_size: u64,
    start_lsn: String,
    stop_lsn: String,
    timeline: u32,
    tablespaces: u32,
}

/// A base in one repository.
#[derive(serde::Serialize)]
struct Holding {
    repository: String,
    state: State,
    reason: Option<String>,
    /// Complete, with the WAL from its start to its stop; null when that could not be found out.
    usable: Option<bool>,
    /// The last segment of its timeline without a hole: so far it recovers.
    last_segment: Option<String>,
    /// About when that segment was closed.
    last_closed_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Complete,
    /// It is being taken or copied, or that was interrupted.
    Begun,
    Unreadable,
    /// The cloud did not keep up; the next run copies it there.
    Dropped,
    Removed,
    Absent,
    /// The repository does not answer, and the catalog says nothing.
    Unknown,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    if let Some(Command::Keep(args)) = args.command {
        return keep::run(ctx, args).await;
    }
    let (clusters, stores) = ctx.get::<(Clusters, Repositories)>()?;
    let wanted: Vec<_> = match &args.cluster {
        Some(name) => vec![one(&clusters, Some(name))?],
        None => clusters.iter().collect(),
    };
    let repositories = stores
        .iter()
        .map(|repository| walferry_store::s3(&repository.s3))
        .collect::<Result<Vec<_>, _>>()?;
    let (catalog, catalog_error) = reachable(ctx).await;
    let mut shown = Shown {
        bases: Vec::new(),
        unreachable: Vec::new(),
        catalog_error,
    };
    for cluster in wanted {
        read::cluster(&mut shown, cluster, &repositories, catalog.as_ref()).await?;
    }
    ctx.output.show(&shown, text)?;
    // Half of the truth is better than none; none is a failure.
    let blind = shown.catalog_error.is_some() && shown.unreachable.len() >= repositories.len();
    Ok(if blind {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn text(shown: &Shown) -> String {
    let mut text = String::new();
    if shown.bases.is_empty() {
        text.push_str("no base backups. HINT: take one with `walferry backup`\n");
    } else {
        text.push_str(&table(
            &[
                "label",
                "cluster",
                "took",
                "size",
                "stored",
                "WAL",
                "keep",
                "cloud",
                "state",
                "usable",
                "recovers to",
            ],
            &shown.bases.iter().flat_map(rows).collect::<Vec<_>>(),
        ));
    }
    for one in &shown.unreachable {
        text.push_str(&format!(
            "UNREACHABLE {}: {}; of it only what the catalog says is shown\n",
            one.repository, one.error
        ));
    }
    if let Some(error) = &shown.catalog_error {
        text.push_str(&format!(
            "WITHOUT THE CATALOG: {error}; what is shown was read from the buckets\n"
        ));
    }
    text
}

/// One for each repository; what is the same for all stands in the first.
fn rows(base: &Base) -> Vec<Vec<String>> {
    let facts = base.facts.as_ref();
    let common = [
        base.label.clone(),
        base.cluster.clone(),
        facts.map_or(String::new(), |it| {
            duration(std::time::Duration::from_secs(it.seconds))
        }),
        facts.map_or(String::new(), |it| bytes(it.size)),
        facts.map_or(String::new(), |it| bytes(it.stored_size)),
        facts.map_or(String::new(), |it| {
            format!("{}-{} on {}", it.start_lsn, it.stop_lsn, it.timeline)
        }),
        match (base.keep, base.keep_until) {
            (false, _) => String::new(),
            (true, None) => "for ever".to_owned(),
            (true, Some(until)) => time(until),
        },
    ];
    base.repositories
        .iter()
        .enumerate()
        .map(|(index, holding)| {
            let mut row: Vec<String> = match index {
                0 => common.to_vec(),
                _ => vec![String::new(); common.len()],
            };
            row.push(holding.repository.clone());
            row.push(match &holding.reason {
                Some(reason) => format!("{}: {reason}", word(holding.state)),
                None => word(holding.state).to_owned(),
            });
            row.push(
                match holding.usable {
                    Some(true) => "yes",
                    Some(false) => "NO",
                    None => "unknown",
                }
                .to_owned(),
            );
            row.push(match (&holding.last_segment, holding.last_closed_at) {
                (Some(segment), Some(at)) if holding.usable == Some(true) => {
                    format!("{} ({segment})", time(at))
                }
                (Some(segment), None) if holding.usable == Some(true) => segment.clone(),
                _ => String::new(),
            });
            row
        })
        .collect()
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%F %T+00").to_string()
}

fn word(state: State) -> &'static str {
    match state {
        State::Complete => "complete",
        State::Begun => "begun",
        State::Unreadable => "UNREADABLE",
        State::Dropped => "DROPPED",
        State::Removed => "removed",
        State::Absent => "absent",
        State::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_793_734_200 + seconds, 0).unwrap()
    }

    fn holding(repository: &str, state: State, usable: Option<bool>) -> Holding {
        Holding {
            repository: repository.to_owned(),
            state,
            reason: (state == State::Dropped).then(|| "it finished nothing for 60 s".to_owned()),
            usable,
            last_segment: (usable == Some(true)).then(|| "000000010000000000000007".to_owned()),
            last_closed_at: (usable == Some(true)).then(|| at(600)),
        }
    }

    #[test]
    fn each_repository_has_its_line_and_what_is_missing_is_said_aloud() {
        let shown = Shown {
            bases: vec![
                Base {
                    cluster: "main".into(),
                    prefix: "wal/".into(),
                    label: "20261103T193000Z".into(),
                    facts: Some(Facts {
                        system_id: "7".into(),
                        server_version: 150_018,
                        from_standby: false,
                        started_at: at(0),
                        stopped_at: at(12),
                        seconds: 12,
                        size: 750 << 20,
                        stored_size: 180 << 20,
                        start_lsn: "0/4000028".into(),
                        stop_lsn: "0/5000100".into(),
                        timeline: 1,
                        tablespaces: 0,
                    }),
                    keep: true,
                    keep_until: Some(at(86_400)),
                    repositories: vec![
                        holding("r2", State::Complete, Some(true)),
                        holding("b2", State::Dropped, Some(false)),
                    ],
                },
                Base {
                    cluster: "main".into(),
                    prefix: "wal/".into(),
                    label: "20261102T193000Z".into(),
                    facts: None,
                    keep: false,
                    keep_until: None,
                    repositories: vec![holding("r2", State::Begun, Some(false))],
                },
            ],
            unreachable: vec![Unreachable {
                repository: "b2".into(),
                error: "connection refused".into(),
            }],
            catalog_error: Some("catalog `db` cannot be reached".into()),
        };
        insta::assert_snapshot!(text(&shown));
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["bases"][0]["repositories"][1]["state"], "dropped");
        assert_eq!(json["bases"][0]["start_lsn"], "0/4000028");
        assert!(json["bases"][1].get("start_lsn").is_none());
    }
}
