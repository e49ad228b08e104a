//! Asks a running worker or scheduler for its `/healthz`: for containers without curl.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};

const PATIENCE: Duration = Duration::from_secs(4);

/// # Errors
/// When nobody answers, or the answer is not 200; the error carries what was said.
pub fn ask(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(64 << 10).read_to_string(&mut answer)?;
    match answer.lines().next() {
        Some(status) if status.contains(" 200 ") => Ok(()),
        _ => bail!("not healthy: {}", answer.trim()),
    }
}
