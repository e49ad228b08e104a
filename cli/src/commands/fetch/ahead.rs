//! `walferry fetch-ahead`: the process that `fetch` starts beside itself. Nobody types it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use walferry_fetch::ahead::Ahead;
use walferry_wal::SystemId;

use super::Whom;
use super::setup::Setup;

/// Nobody waits for so long between two segments.
const IDLE: Duration = Duration::from_secs(60);

/// What `fetch` passes on.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, as `walferry fetch` starts it:\n  walferry fetch-ahead --cluster main --system-id 7309284736450283764\n\nEnds by itself when recovery has stood still for a minute. Its exit code is always 0."
)]
pub(crate) struct AheadArgs {
    #[command(flatten)]
    whom: Whom,
    /// The system whose data directory asked
    #[arg(long)]
    system_id: SystemId,
}

/// The arguments that start it, with the same configuration as this process.
pub(super) fn arguments(
    whom: &Whom,
    system: SystemId,
    file: Option<PathBuf>,
    set: &[String],
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["fetch-ahead".into()];
    let mut flag = |name: &str, value: OsString| arguments.extend([name.into(), value]);
    flag("--system-id", system.to_string().into());
    if let Some(cluster) = &whom.cluster {
        flag("--cluster", cluster.into());
    }
    for repository in &whom.repositories {
        flag("--repository", repository.as_str().into());
    }
    if let Some(file) = file {
        // Its working directory is another one.
        let file = std::path::absolute(&file).unwrap_or(file);
        flag("--config", file.into());
    }
    for setting in set {
        flag("--set", setting.into());
    }
    arguments
}

/// Fetches ahead until recovery stands still.
pub(crate) fn run(args: &AheadArgs, file: Option<PathBuf>, set: &[String]) -> ExitCode {
    if let Err(error) = ahead(args, file, set) {
        // Into the space's log, and for the next `fetch` to say.
        super::guard::say(&super::super::push::sentence(error.as_ref()));
    }
    ExitCode::SUCCESS
}

fn ahead(args: &AheadArgs, file: Option<PathBuf>, set: &[String]) -> anyhow::Result<()> {
    let setup = Setup::load(&args.whom, file, set)?;
    let ahead = Ahead {
        space: setup.space(args.system_id)?,
        archive: setup.archive,
        system: args.system_id,
        limit: setup.settings.prefetch,
        parallel: setup.settings.parallel,
        idle: IDLE,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(ahead.run());
    runtime.shutdown_background();
    Ok(ended?)
}
