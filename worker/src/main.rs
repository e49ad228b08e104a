//! `walferry-worker`: takes jobs off the queue and archives.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use walferry_config::{Config, LogFormat, Sources};

/// Archives WAL segments: claims, packs, uploads, verifies, catalogs, deletes.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  walferry-worker --config /etc/walferry/walferry.toml\n\nAny number of workers may run; they share the work."
)]
struct Args {
    /// TOML configuration file [default: /etc/walferry/walferry.toml when it is there]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Override one setting, e.g. --set worker.pack_threads=4
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// The queues to serve, comma separated [default: those of all clusters]
    #[arg(short = 'Q', long)]
    queues: Option<String>,
    /// Where /healthz, /readyz and /metrics are served; port 0 takes any free one
    #[arg(long)]
    health_address: Option<String>,
    /// Write the address that the health port was bound to into this file
    #[arg(long)]
    health_address_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Ask a running worker or scheduler whether it is alive; exits 0 or 1 (for container health checks)
    Healthcheck {
        /// Its health address
        #[arg(default_value = "127.0.0.1:9847")]
        address: std::net::SocketAddr,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.command {
        Some(Command::Healthcheck { address }) => walferry_worker::healthcheck::ask(*address),
        None => {
            walferry_worker::allocator::fix_threshold();
            start(args)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("walferry-worker: {error:#}");
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
        .flag("worker.queues", "--queues", args.queues)
        .flag(
            "worker.health_address",
            "--health-address",
            args.health_address,
        )
        .flag("worker.health_address_file", "--health-address-file", file);
    let config = Config::load(sources)?.worker()?;
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
    walferry_worker::run(config, shutdown).await
}
