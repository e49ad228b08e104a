//! `walferry-scheduler`: enqueues the periodic jobs; runs none, holds no cloud key.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use tokio_util::sync::CancellationToken;
use walferry_config::{Config, LogFormat, Sources};

/// Enqueues walferry's periodic jobs. Any number may run side by side: each slot is enqueued once.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  REDIS_URL=redis://127.0.0.1:6379 walferry-scheduler"
)]
struct Args {
    /// TOML configuration file [default: /etc/walferry/walferry.toml when it is there]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Override one setting, e.g. --set scheduler.archive_interval=60s
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Where /healthz, /readyz and /metrics are served; port 0 takes any free one
    #[arg(long)]
    health_address: Option<String>,
    /// Write the address that the health port was bound to into this file
    #[arg(long)]
    health_address_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    match start(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("walferry-scheduler: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn start(args: Args) -> anyhow::Result<()> {
    let file = args
        .health_address_file
        .map(|path| path.display().to_string());
    let sources = Sources::of_process()
        .file(args.config)
        .set(&args.set)?
        .flag(
            "scheduler.health_address",
            "--health-address",
            args.health_address,
        )
        .flag(
            "scheduler.health_address_file",
            "--health-address-file",
            file,
        );
    let config = Config::load(sources)?.scheduler()?;
    let format = match config.log.format {
        LogFormat::Text => walferry_observe::Format::Text,
        LogFormat::Json => walferry_observe::Format::Json,
    };
    walferry_observe::init_logs(format, &config.log.level).context("start logging")?;
    let shutdown = CancellationToken::new();
    let signal = shutdown.clone();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("listen for SIGTERM")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        signal.cancel();
    });
    walferry_scheduler::run(config, shutdown).await
}
