//! `walferry`: what PostgreSQL, cron and people type.
//!
//! Exit codes: 0 done, 1 failed or not as it should be, 2 wrong usage; `check --nagios` has
//! Nagios's own. Never above 125 from `push`: more would end PostgreSQL's archiver process.
//! `fetch` has codes of its own, 0, 1 and 200, whatever happens.

mod checks;
mod commands;
mod context;
mod fill;
mod output;
mod progress;
mod standing;
mod transfer;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, builder::StyledStr};

use crate::{commands::fetch::guard::Meant, context::Context};

/// Archives PostgreSQL's WAL to two clouds through a job queue.
#[derive(Parser)]
#[command(
    name = "walferry",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  archive_command = 'walferry push %p'\n  restore_command = 'walferry fetch %f %p'\n  walferry status --watch\n  walferry check\n  walferry enqueue backfill --dir /var/lib/postgresql/old_wal --dry-run"
)]
struct Cli {
    /// TOML configuration file [default: /etc/walferry/walferry.toml when it is there]
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Override one setting, e.g. --set retention.days=14
    #[arg(long, global = true, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Print JSON instead of text; the shapes are documented in docs/json.md
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hand one file over to the archive directory: PostgreSQL's archive_command
    Push(commands::push::PushArgs),
    /// Get one file of WAL back from whichever repository answers: PostgreSQL's restore_command
    Fetch(commands::fetch::FetchArgs),
    /// The process that `fetch` starts to have the next segments at hand
    #[command(name = "fetch-ahead", hide = true)]
    FetchAhead(commands::fetch::AheadArgs),
    /// Put a job on the queue
    Enqueue(commands::enqueue::Args),
    /// Look into the queue and act on its jobs
    Queue(commands::queue::Args),
    /// The workers that live
    Workers(commands::workers::Args),
    /// Where the archive stands, at a glance
    Status(commands::status::Args),
    /// The archived files
    Ls(commands::ls::Args),
    /// What is missing between archived segments
    Gaps(commands::gaps::Args),
    /// Files that were not archived because something is wrong with them
    Quarantine(commands::quarantine::Args),
    /// Every dependency and promise on a line
    Check(commands::check::Args),
    /// What retention would delete, and why; deleting; stopping it
    Retention(commands::retention::Args),
    /// Take a base backup, now: without one WAL restores nothing
    Backup(commands::backup::Args),
    /// The base backups, where each lies and what it can recover to
    Backups(commands::backups::Args),
    /// Adopt the objects that another system left in a prefix
    Import(commands::import::Args),
    /// A cluster's place in the buckets
    Cluster(commands::cluster::Args),
    /// A repository that left the configuration
    Repository(commands::repository::Args),
    /// The catalog's schema
    Catalog(commands::catalog::Args),
    /// The configuration as it is understood
    Config(commands::config::Args),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  walferry completions bash > /etc/bash_completion.d/walferry"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The command line, with examples in the help of every command.
fn command() -> clap::Command {
    with_examples(Cli::command(), None)
}

/// A command without examples of its own shows those of its group.
fn with_examples(mut command: clap::Command, groups: Option<&StyledStr>) -> clap::Command {
    if let (None, Some(text)) = (command.get_after_help(), groups) {
        command = command.after_help(text.clone());
    }
    // The examples of `walferry` itself are about everything, and help with nothing in particular.
    let own = command
        .get_after_help()
        .filter(|_| command.get_name() != "walferry")
        .cloned();
    let names: Vec<String> = command
        .get_subcommands()
        .map(|one| one.get_name().to_owned())
        .collect();
    for name in names {
        command = command.mut_subcommand(name, |one| with_examples(one, own.as_ref()));
    }
    command
}

fn main() -> ExitCode {
    let meant = commands::fetch::guard::meant(std::env::args_os(), |name| {
        Cli::command().find_subcommand(name).is_some()
    });
    if meant == Meant::Ahead {
        // Before anything is opened: whatever is open now is somebody else's.
        walferry_fetch::ahead::detach();
    }
    meant.guard();
    let parsed = command().try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return meant.usage(&error),
    };
    // PostgreSQL waits for `push`: no runtime, no pool, nothing but the directory.
    let command = match cli.command {
        Command::Push(args) => {
            return commands::push::run(args, cli.config, &cli.set, cli.json);
        }
        // As for `push`; and each of its exit codes means something to PostgreSQL.
        Command::Fetch(args) => {
            return commands::fetch::run(args, cli.config, &cli.set, cli.json);
        }
        Command::FetchAhead(args) => {
            return commands::fetch::run_ahead(&args, cli.config, &cli.set);
        }
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "walferry",
                &mut std::io::stdout(),
            );
            return ExitCode::SUCCESS;
        }
        command => command,
    };
    match run(cli.config, cli.set, cli.json, command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("walferry: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(
    config: Option<PathBuf>,
    set: Vec<String>,
    json: bool,
    command: Command,
) -> anyhow::Result<ExitCode> {
    let ctx = Context::load(config, set, json)?;
    match command {
        Command::Push(_)
        | Command::Fetch(_)
        | Command::FetchAhead(_)
        | Command::Completions { .. } => Ok(ExitCode::SUCCESS),
        Command::Enqueue(args) => commands::enqueue::run(&ctx, args).await,
        Command::Queue(args) => commands::queue::run(&ctx, args).await,
        Command::Workers(args) => commands::workers::run(&ctx, args).await,
        Command::Status(args) => commands::status::run(&ctx, args).await,
        Command::Ls(args) => commands::ls::run(&ctx, args).await,
        Command::Gaps(args) => commands::gaps::run(&ctx, args).await,
        Command::Quarantine(args) => commands::quarantine::run(&ctx, args).await,
        Command::Check(args) => commands::check::run(&ctx, args).await,
        Command::Retention(args) => commands::retention::run(&ctx, args).await,
        Command::Backup(args) => commands::backup::run(&ctx, args).await,
        Command::Backups(args) => commands::backups::run(&ctx, args).await,
        Command::Import(args) => commands::import::run(&ctx, args).await,
        Command::Cluster(args) => commands::cluster::run(&ctx, args).await,
        Command::Repository(args) => commands::repository::run(&ctx, args).await,
        Command::Catalog(args) => commands::catalog::run(&ctx, args).await,
        Command::Config(args) => commands::config::run(&ctx, args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    /// Every command that does something, by its full name.
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        if !command.has_subcommands() {
            let help = command.clone().render_long_help().to_string();
            found.push((path.to_owned(), help));
        }
        for one in command.get_subcommands() {
            leaves(one, &format!("{path} {}", one.get_name()), found);
        }
    }

    #[test]
    fn the_help_of_every_command_has_an_example_of_it() {
        command().debug_assert();
        let mut found = Vec::new();
        leaves(&command(), "walferry", &mut found);
        assert!(found.len() > 25, "{found:?}");
        for (path, help) in found {
            let examples = help.split_once("\nExample").map_or("", |(_, after)| after);
            assert!(examples.contains(&path), "{path}:\n{help}");
        }
    }

    #[test]
    fn every_shell_has_completions_of_every_command() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "walferry", &mut script);
            let script = String::from_utf8_lossy(&script);
            for word in ["enqueue", "retention", "quarantine", "migrate", "watch"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
