//! The embedded server of `tests/s3`, as a process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::binaries;
use crate::ports::Port;
use crate::process::Process;
use crate::sigv4::Credentials;

pub(super) fn start(
    name: &str,
    folder: &Path,
    logs: &Path,
    credentials: &Credentials,
    bucket: &str,
) -> (Process, SocketAddr, Vec<Port>) {
    let port = Port::take();
    let address: SocketAddr = ([127, 0, 0, 1], port.number()).into();
    let mut command = Command::new(binaries::built("walferry-s3"));
    command
        .current_dir(folder)
        .arg("--listen")
        .arg(address.to_string())
        .arg("--root")
        .arg(folder.join("data"))
        .args([
            "--access-key",
            &credentials.id,
            "--secret-key",
            &credentials.secret,
        ])
        .args(["--bucket", bucket]);
    (
        Process::spawn(name, logs, &mut command),
        address,
        vec![port],
    )
}
