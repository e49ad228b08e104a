//! `walferry config check`: the configuration as it is understood.

use std::process::ExitCode;

use clap::Subcommand;

use crate::{context::Context, output::table};

#[derive(clap::Args)]
#[command(after_help = "Example:\n  walferry config check")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every setting: its value (secrets hidden) and where it came from; exits 1 when something is wrong
    Check,
}

#[derive(serde::Serialize)]
struct Setting {
    name: String,
    value: String,
    origin: String,
    secret: bool,
}

#[derive(serde::Serialize)]
struct Checked {
    settings: Vec<Setting>,
    problems: Vec<String>,
}

pub(crate) async fn run(ctx: &Context, args: Args) -> anyhow::Result<ExitCode> {
    let Command::Check = args.command;
    let settings = ctx
        .config
        .effective()
        .into_iter()
        .map(|setting| Setting {
            name: setting.name,
            value: setting.value,
            origin: setting.origin,
            secret: setting.secret,
        })
        .collect();
    let problems = match ctx.config.check() {
        Ok(()) => Vec::new(),
        Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
    };
    let checked = Checked { settings, problems };
    ctx.output.show(&checked, |checked| {
        let rows: Vec<Vec<String>> = checked
            .settings
            .iter()
            .map(|setting| {
                vec![
                    setting.name.clone(),
                    setting.value.clone(),
                    setting.origin.clone(),
                ]
            })
            .collect();
        let mut text = table(&["setting", "value", "from"], &rows);
        for problem in &checked.problems {
            text.push_str(&format!("\n{problem}"));
        }
        text
    })?;
    Ok(if checked.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
