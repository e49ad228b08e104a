//! `walferry-s3`: the embedded S3 server as a program, for `./demo` and the compose file.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use walferry_s3::{Options, Server};

/// An S3 server that checks signatures and keeps objects as files. For demo and tests only.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Folder with the objects.
    #[arg(long)]
    root: PathBuf,
    /// Bucket to make if it does not exist; may be repeated.
    #[arg(long, required = true)]
    bucket: Vec<String>,
    #[arg(long, env = "WALFERRY_S3_ACCESS_KEY")]
    access_key: String,
    #[arg(long, env = "WALFERRY_S3_SECRET_KEY", hide_env_values = true)]
    secret_key: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut terminated = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let server = Server::start(Options {
        listen: arguments.listen,
        root: arguments.root,
        access_key: arguments.access_key,
        secret_key: arguments.secret_key,
        buckets: arguments.bucket,
    })
    .await?;
    let ready = serde_json::json!({
        "endpoint": server.endpoint(),
        "port": server.address().port(),
        "buckets": server.options().buckets,
    });
    // One line, and at once: whoever started us waits for it.
    let mut out = std::io::stdout();
    writeln!(out, "{ready}")
        .and_then(|()| out.flush())
        .context("tell the endpoint")?;
    tokio::select! {
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("watch for SIGINT")?,
    }
    server.stop().await;
    Ok(())
}
